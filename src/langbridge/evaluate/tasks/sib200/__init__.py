"""SIB-200: the topic of a sentence, in 205 languages and scripts."""
