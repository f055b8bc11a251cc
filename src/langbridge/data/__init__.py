"""What a bridge learns from: rows of text, read strictly and batched by the processor.

Nothing here loads torch, so a wrong row is reported before any model is touched.
"""

from langbridge.data.collator import LabelledCollator
from langbridge.data.files import read_jsonl, write_atomically, write_jsonl
from langbridge.data.labelled import Example, LabelledDataset, read_labelled

__all__ = [
    "Example",
    "LabelledCollator",
    "LabelledDataset",
    "read_jsonl",
    "read_labelled",
    "write_atomically",
    "write_jsonl",
]
