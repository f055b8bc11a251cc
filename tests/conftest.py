"""For every test: nothing reaches the network."""

import os

# Set before any test imports transformers, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
