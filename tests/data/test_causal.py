"""A plain language model's batches."""

import warnings
from typing import Any

import pytest

from langbridge.data import CausalCollator, Example, TextExample
from langbridge.errors import LangBridgeError

IGNORE = -100
PAIRS = [
    Example("How many apples?", "He has 3 apples.", "rows.jsonl:1"),
    Example("Why?", "The cat sat on the mat, and the dog on the log.", "rows.jsonl:2"),
]


def parts(batch: dict[str, Any], row: int) -> tuple[list[int], list[int]]:
    """What is only read and what is learned of a row."""
    ids, labels = batch["input_ids"][row].tolist(), batch["labels"][row].tolist()
    real = int(batch["attention_mask"][row].sum())
    assert labels[real:] == [IGNORE] * (len(labels) - real)
    read = sum(label == IGNORE for label in labels[:real])
    assert labels[read:real] == ids[read:real], "what is learned is one piece at the end"
    return ids[:read], labels[read:real]


def test_a_pair_is_read_and_its_target_learned_with_eos(language_model_tokenizer: Any) -> None:
    tokenizer = language_model_tokenizer
    batch = CausalCollator(tokenizer, template="Q: {prompt}\nA:", max_length=256, with_rows=True)(PAIRS)
    assert batch.pop("rows") == ["rows.jsonl:1", "rows.jsonl:2"]
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for row, pair in enumerate(PAIRS):
        read, learned = parts(batch, row)
        assert read == bos + tokenizer(f"Q: {pair.prompt}\nA:", add_special_tokens=False)["input_ids"]
        assert learned == tokenizer(pair.target, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels"), (2, int(batch["attention_mask"].sum(1).max()))
    )


def test_a_text_is_learned_whole_but_for_what_stands_first(language_model_tokenizer: Any) -> None:
    tokenizer = language_model_tokenizer
    batch = CausalCollator(tokenizer, max_length=256)(
        [TextExample("The cat sat."), TextExample("Tom has 3 apples, or 4.")]
    )
    read, learned = parts(batch, 0)
    ids = tokenizer("The cat sat.", add_special_tokens=False)["input_ids"]
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    assert len(read) == 1
    assert read + learned == [*bos, *ids, tokenizer.eos_token_id]


@pytest.mark.filterwarnings("ignore:.*the target was cut")
def test_what_is_too_long_is_cut(language_model_tokenizer: Any) -> None:
    tokenizer = language_model_tokenizer
    collate = CausalCollator(tokenizer, max_length=20)
    pair = Example("Why?", "The dog has pears. " * 9)
    batch = collate([pair])
    _, learned = parts(batch, 0)
    target = tokenizer(pair.target, add_special_tokens=False)["input_ids"]
    assert learned == [*target[: len(learned) - 1], tokenizer.eos_token_id]
    assert batch["input_ids"].shape == (1, 20)
    text = collate([TextExample("apples and pears " * 20)])
    assert text["input_ids"].shape == (1, 20)
    assert tokenizer.eos_token_id not in parts(text, 0)[1], "a text that goes on does not end here"


def test_targets_that_are_cut_are_told(language_model_tokenizer: Any) -> None:
    collate = CausalCollator(language_model_tokenizer, max_length=20)
    long = Example("Why?", "The dog has pears. " * 9, "rows.jsonl:3")
    with pytest.warns(UserWarning, match=r"rows\.jsonl:3: the target was cut to fit max_length=20; further") as caught:
        collate([Example("Why?", "So.", "rows.jsonl:1"), long])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate([long, long])
        collate([TextExample("apples and pears " * 20)])  # a text goes on where a batch ends, as with `unlabelled`
    collate.misfits([long])
    assert collate.cuts.counts == {"prompts": 0, "targets": 3}


@pytest.mark.filterwarnings("ignore:.*the target was cut")
def test_a_pair_whose_target_would_be_cut_whole(language_model_tokenizer: Any) -> None:
    ((head, *_),) = CausalCollator(language_model_tokenizer, max_length=200)._ids(PAIRS[:1])
    read = len(head)
    fits, short = (CausalCollator(language_model_tokenizer, max_length=read + more) for more in (2, 1))
    assert fits.misfits(PAIRS[:1]) == [None]
    assert len(parts(fits(PAIRS[:1]), 0)[1]) == 2
    (misfit,) = short.misfits(PAIRS[:1])
    assert misfit is not None
    assert misfit.reason == "target cut whole"
    with pytest.raises(LangBridgeError, match=rf"rows\.jsonl:1: the prompt has {read} tokens, and max_length"):
        short(PAIRS[:1])


def test_the_loss_of_eos_reaches_a_model_that_pads_with_it(tokenizers: dict[str, Any]) -> None:
    """The test that a label mask by id would fail: after EOS is learned, the model writes it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizers["qwen"]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    batch = CausalCollator(tokenizer, max_length=64)(PAIRS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    (read, learned) = parts(batch, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = model.generate(torch.tensor([read]), attention_mask=torch.ones(1, len(read)), max_new_tokens=40)
    assert written[0, len(read) :].tolist() == learned


def test_mistakes_are_told(tokenizers: dict[str, Any]) -> None:
    import copy

    with pytest.raises(LangBridgeError, match=r"template: got 'Q', expected 'chat' .*\{prompt\} exactly once"):
        CausalCollator(tokenizers["llama"], template="Q", max_length=8)
    endless = copy.deepcopy(tokenizers["llama"])
    endless.eos_token = None
    with pytest.raises(LangBridgeError, match="it has no EOS token"):
        CausalCollator(endless, max_length=8)
