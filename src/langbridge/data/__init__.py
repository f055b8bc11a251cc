"""What a bridge learns from: rows of text, read strictly and batched by the processor.

    Data (settings.py) -> rows of files (readers.py, places.py) -> examples (templates.py, examples.py)
        -> RowTable (table.py, map-style) or RowStream (stream.py) -> a collator (collator.py, causal.py, unlabelled.py)

Importing this room loads neither torch nor `datasets`, so that a recipe can be read without them; opening rows does.
"""

from langbridge.data.collator import LabelledCollator
from langbridge.data.examples import BatchRow, Example, Skipped, TextExample
from langbridge.data.opening import open_data, open_dataset, open_validation
from langbridge.data.settings import Data, Regime, Source, Validation, is_here
from langbridge.data.table import RowTable
from langbridge.files import read_jsonl, write_atomically, write_jsonl

__all__ = [
    "BatchRow",
    "Data",
    "Example",
    "LabelledCollator",
    "Regime",
    "RowTable",
    "Skipped",
    "Source",
    "TextExample",
    "Validation",
    "is_here",
    "open_data",
    "open_dataset",
    "open_validation",
    "read_jsonl",
    "write_atomically",
    "write_jsonl",
]
