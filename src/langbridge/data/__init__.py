"""What a bridge learns from: rows of text, read strictly and batched by the processor.

    Data (settings.py) -> rows of files (sources.py, readers.py, delimited.py)
        -> examples (columns.py, examples.py)
        -> RowTable (table.py, map-style) or RowStream (stream.py) -> a collator (collator.py, causal.py, unlabelled.py,
            teaching.py)

Importing this room loads neither torch nor `datasets`, so that a recipe can be read without them; opening rows does.
"""

from typing import TYPE_CHECKING, Any

from langbridge.data.causal import CausalCollator
from langbridge.data.collator import LabelledCollator
from langbridge.data.examples import BatchRow, Example, Skipped, TextExample
from langbridge.data.open import open_data, open_dataset, open_validation
from langbridge.data.settings import Data, Regime, Source, Validation, is_here
from langbridge.data.splitting import split_text
from langbridge.data.table import RowTable
from langbridge.data.unlabelled import UnlabelledCollator, drawn_lengths

# Once of this package, and imported from it by scripts of users.
from langbridge.files import read_jsonl, write_atomically, write_jsonl

if TYPE_CHECKING:
    from langbridge.data.stream import RowStream

__all__ = [
    "BatchRow",
    "CausalCollator",
    "Data",
    "Example",
    "LabelledCollator",
    "Regime",
    "RowStream",
    "RowTable",
    "Skipped",
    "Source",
    "TextExample",
    "UnlabelledCollator",
    "Validation",
    "drawn_lengths",
    "is_here",
    "open_data",
    "open_dataset",
    "open_validation",
    "read_jsonl",
    "split_text",
    "write_atomically",
    "write_jsonl",
]


def __getattr__(name: str) -> Any:
    # The one class that needs torch to be defined (PEP 562).
    if name == "RowStream":
        from langbridge.data.stream import RowStream

        return RowStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
