"""A bridge between real pretrained models, measured by what the language model reads of it. One command an arm.

__main__.py  the commands                reading.py   what a measurement is, and taking it
recipe.yaml  what all arms have alike    nearest.py   the rows of the language model nearest to soft prompts
arms.py      in what they differ         shares.py    reading shares and their intervals
starts.py    starts that no recipe has   report.py    tables and a figure of whatever is there
runs.py      one arm: train, measure
"""

import os

# Read once, when the first module below imports transformers.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
