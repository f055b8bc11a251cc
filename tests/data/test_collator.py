"""Pairs to a batch: what is learned, that it ends, and what is said of rows that do not fit."""

import warnings
from typing import Any

import pytest

from langbridge.data import Example, LabelledCollator
from langbridge.data.collator import marker_of
from langbridge.errors import LangBridgeError

IGNORE = -100
PAIRS = [
    Example("How many apples has Tom?", "He has 3 apples.", "rows.jsonl:1"),
    Example("Why?", "The cat sat on the mat, and the dog on the log.", "rows.jsonl:2"),
]


def learned(batch: dict[str, Any], row: int) -> list[int]:
    return [label for label in batch["labels"][row].tolist() if label != IGNORE]


def test_targets_end_in_a_trained_eos_whatever_pad_is(processor: Any) -> None:
    tokenizer = processor.tokenizer
    batch = LabelledCollator(processor, max_encoder_length=64, max_length=128)(PAIRS)
    for row, pair in enumerate(PAIRS):
        target = tokenizer(pair.target, add_special_tokens=False)["input_ids"]
        assert learned(batch, row) == [*target, tokenizer.eos_token_id]
        real = int(batch["attention_mask"][row].sum())
        assert batch["input_ids"][row, real - 1] == tokenizer.eos_token_id
        assert batch["labels"][row, real - 1] == tokenizer.eos_token_id
        assert (batch["labels"][row, real:] == IGNORE).all(), "pads are not learned, even where pad is EOS"
    assert batch["attention_mask"].sum(1).min() < batch["input_ids"].shape[1], "there is padding to be wrong about"


def test_the_four_kinds_are_what_they_are_named_after(tokenizers: dict[str, Any]) -> None:
    """Else the tests of EOS would prove less than they say."""
    llama, mistral, qwen, opt = (tokenizers[kind] for kind in ("llama", "mistral", "qwen", "opt"))
    assert llama.pad_token_id is None
    assert mistral.pad_token_id is None
    assert qwen.pad_token_id == qwen.eos_token_id
    assert qwen.bos_token_id is None
    assert opt.bos_token_id == opt.eos_token_id != opt.pad_token_id
    assert llama.convert_ids_to_tokens(llama("ğ", add_special_tokens=False)["input_ids"])[-2:] == ["<0xC4>", "<0x9F>"]


def test_the_rows_come_with_the_batch_where_they_are_wanted(processor: Any) -> None:
    collate = LabelledCollator(processor, max_encoder_length=64, max_length=128, with_rows=True)
    assert collate(PAIRS)["rows"] == ["rows.jsonl:1", "rows.jsonl:2"]
    assert "rows" not in LabelledCollator(processor, max_encoder_length=64, max_length=128)(PAIRS)


def test_a_pair_whose_target_would_be_cut_whole_is_a_misfit(processor: Any) -> None:
    long = Example("apples " * 60, "3", "rows.jsonl:7")
    collate = LabelledCollator(processor, max_encoder_length=64, max_length=66)
    assert not collate.accepts_all
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine, misfit = collate.misfits([PAIRS[0], long])
    assert fine is None
    assert misfit is not None
    assert misfit.reason == "target cut whole"
    assert str(misfit).startswith("rows.jsonl:7: the prompt takes ")
    assert "max_length" in str(misfit)


def test_rows_are_judged_in_one_call_of_the_tokenizer(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast tokenizer spreads a call over the cores; row by row a million rows would take half an hour."""
    calls = []
    kind = type(processor.encoder_tokenizer)
    ask = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, texts, **asked: calls.append(texts) or ask(self, texts, **asked))
    collate = LabelledCollator(processor, max_encoder_length=64, max_length=60)
    assert collate.misfits(PAIRS * 100) == [None] * 200
    assert len(calls) < 20


def test_misfits_are_exactly_the_rows_whose_batch_would_learn_nothing_but_eos(processor: Any) -> None:
    """The boundary, found from both sides: what the collator says against what the processor does."""
    for length in range(24, 60):
        collate = LabelledCollator(processor, max_encoder_length=64, max_length=length)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                nothing = len(learned(collate([PAIRS[0]]), 0)) < 2
            except LangBridgeError:
                nothing = True
        assert (collate.misfits([PAIRS[0]]) != [None]) == nothing, length


def test_a_target_that_holds_the_mark_of_soft_prompts_is_a_bad_row(processor: Any) -> None:
    marker = marker_of(processor)
    collate = LabelledCollator(processor, max_encoder_length=64, max_length=128)
    if marker is None:
        assert collate.accepts_all
        return
    assert not collate.accepts_all
    found = collate.misfits([PAIRS[0], Example("a", f"so {marker} it is", "rows.jsonl:4"), Example(marker, "b")])
    assert [misfit and misfit.reason for misfit in found] == [None, "mark of soft prompts", None]
    assert str(found[1]).startswith(f"rows.jsonl:4: the text contains {marker!r}, the token that marks soft prompts")
    with pytest.raises(LangBridgeError, match=r"marks soft prompts.*\(the rows are rows\.jsonl:4\)"):
        collate([Example("a", f"so {marker} it is", "rows.jsonl:4")])


def test_with_room_for_the_longest_prompt_no_row_is_asked_about(processor: Any) -> None:
    overhead = len(processor(["a"], return_tensors=None)["input_ids"][0]) - len(
        processor(["a"], return_tensors=None)["encoder_input_ids"][0]
    )
    roomy, tight = (LabelledCollator(processor, max_encoder_length=64, max_length=64 + overhead + n) for n in (2, 1))
    assert roomy.accepts_all == (marker_of(processor) is None)
    assert not tight.accepts_all
    longest = Example("apples " * 60, "3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert roomy.misfits([longest]) == [None]
        assert tight.misfits([longest]) != [None]


def test_an_error_in_a_batch_names_its_rows(processor: Any) -> None:
    collate = LabelledCollator(processor, max_encoder_length=64, max_length=12)
    with pytest.raises(LangBridgeError, match=r"\(the rows are rows\.jsonl:1, rows\.jsonl:2\)$"):
        collate(PAIRS)
