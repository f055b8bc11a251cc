"""The whole experiment at a scale that a laptop trains in minutes.

This room writes files and nothing else: tokenizers, a multilingual encoder, an English-centric language model, JSONL.
The ordinary commands train, evaluate and plot them.
"""
