"""Rows that are cut to fit: the first is named, all are counted, whoever collates."""

import warnings
from typing import Any

import pytest
from torch.utils.data import DataLoader

from langbridge.data import Example, LabelledCollator
from langbridge.data.cuts import told

ROWS = [
    Example("Why?", "So.", "rows.jsonl:1"),
    Example("How many apples has Tom now? " * 9, "3", "rows.jsonl:2"),
    Example("Why?", "The cat sat on the mat, and the dog on the log. " * 9, "rows.jsonl:3"),
    Example("How many apples has Ann now? " * 9, "4", "rows.jsonl:4"),
]


@pytest.fixture
def collate(processor: Any) -> LabelledCollator:
    return LabelledCollator(processor, max_encoder_length=16, max_length=48)


def test_the_first_of_each_kind_is_named_and_all_are_counted(collate: LabelledCollator) -> None:
    collate(ROWS[:1])
    assert told(collate.cuts.counts) == ""
    with pytest.warns(UserWarning, match="was cut") as caught:
        collate(ROWS)
    messages = sorted(str(warning.message) for warning in caught)
    assert [message.split("; ")[0] for message in messages] == [
        "rows.jsonl:2: the prompt was cut to 16 encoder tokens",
        "rows.jsonl:3: the target was cut to fit max_length=48",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate(ROWS)
    assert collate.cuts.counts == {"prompts": 4, "targets": 2}
    assert told(collate.cuts.counts) == "cut to fit, repeats counted: 4 prompts, 2 targets"


@pytest.mark.filterwarnings("ignore:rows.jsonl")
def test_a_loaders_workers_count_together(collate: LabelledCollator) -> None:
    loader: Any = DataLoader(ROWS * 2, batch_size=2, collate_fn=collate, num_workers=2)  # type: ignore[arg-type]
    assert len(list(loader)) == 4
    assert collate.cuts.counts == {"prompts": 4, "targets": 2}


def test_other_warnings_pass_through(collate: LabelledCollator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="another"), collate.cuts.counting(["rows.jsonl:1"]):
        warnings.warn("another", stacklevel=1)
