"""Why a bridge works, or does not: how language-agnostic its states are, in which language it answers, and where its
soft prompts lie among the language model's own tokens.

Reads checkpoints, corpora and the samples of evaluations; trains and scores nothing. What it needs beyond the package
is the extra `analyze`: scikit-learn and py3langid.
"""
