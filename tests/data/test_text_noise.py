"""The language model's own copy of a prompt in training: left out, in letters of no language, or whole."""

import copy
import random
from collections import Counter
from typing import Any

import pytest
import torch

from langbridge.data import Example, LabelledCollator
from langbridge.data.text_noise import SCRIPTS, TextNoise, scrambled
from langbridge.errors import LangBridgeError

PAIRS = [
    Example(
        f"Tom has {n} apples. He buys {n % 7} more, and Anna sells 12.", f"{n + n % 7 - 12}", f"rows.jsonl:{n}", n // 4
    )
    for n in range(40)
]


@pytest.fixture
def augmented(processor: Any) -> Any:
    """A processor whose language model reads the prompt as its own tokens, too."""
    changed = copy.copy(processor)
    changed.template = "<soft>{prompt}</soft>Q: {prompt}\nA:"
    return changed


def collator(processor: Any, max_length: int = 600, **noise: float) -> LabelledCollator:
    return LabelledCollator(processor, max_encoder_length=64, max_length=max_length).with_noise(TextNoise(**noise), 42)


def own_text(processor: Any, batch: dict[str, Any], row: int) -> str:
    """What the language model reads of a row as its own tokens, before the target."""
    ids, labels = batch["input_ids"][row], batch["labels"][row]
    read = ids[(labels == -100) & batch["attention_mask"][row].bool() & (ids != processor.soft_prompt_token_id)]
    return processor.tokenizer.decode(read, skip_special_tokens=True)


def test_every_letter_and_digit_is_another_one_throughout() -> None:
    text = "Tom has 288 Äpfel; Anna sells 120."
    found = {scrambled(text, random.Random(seed)) for seed in range(40)}
    assert len(found) == 40
    for one in found:
        table: dict[str, str] = {}
        for before, after in zip(text, one, strict=True):
            assert before.isalnum() or before == after, "signs and spaces stay"
            if before.isdigit():
                assert after.isdigit()
                assert after != before
            if before.isalnum():
                assert table.setdefault(before.lower(), after.lower()) == after.lower()
    latin = sum(one[1].isascii() for one in found)
    assert 8 < latin < 32, "half in other scripts"
    assert len(SCRIPTS) == len({script[0] for script in SCRIPTS})
    assert all(letter.isalpha() for script in SCRIPTS for letter in script)


def test_rows_are_left_out_scrambled_or_whole_and_nothing_else_of_them_changes(augmented: Any) -> None:
    clean = LabelledCollator(augmented, max_encoder_length=64, max_length=600)(PAIRS)
    batch = collator(augmented, drop=0.3, scramble=0.3)(PAIRS)
    for name in ("encoder_input_ids", "encoder_attention_mask"):
        assert torch.equal(batch[name], clean[name]), "the encoder reads the prompt itself"
    kinds: Counter[str] = Counter()
    empty = own_text(augmented, collator(augmented, drop=1)(PAIRS[:1]), 0)
    for row in range(len(PAIRS)):
        learned, expected = (one["labels"][row][one["labels"][row] != -100] for one in (batch, clean))
        assert torch.equal(learned, expected)
        text, whole = own_text(augmented, batch, row), own_text(augmented, clean, row)
        kinds["whole" if text == whole else "dropped" if text == empty else "scrambled"] += 1
        assert text.endswith(whole[-2:])
    assert all(5 <= kinds[kind] <= 23 for kind in ("whole", "dropped", "scrambled")), kinds


def test_the_seed_and_the_update_fix_it_and_nothing_else_does(augmented: Any) -> None:
    noisy = collator(augmented, drop=0.3, scramble=0.7)
    together = noisy(PAIRS[:8])
    for row in range(8):
        (alone,) = noisy([PAIRS[row]])["input_ids"]
        assert torch.equal(together["input_ids"][row][: len(alone)], alone)
    later = [Example(one.prompt, one.target, one.origin, one.step + 1000) for one in PAIRS]
    other = LabelledCollator(augmented, max_encoder_length=64, max_length=600).with_noise(
        TextNoise(drop=0.3, scramble=0.7), 43
    )
    texts = [[own_text(augmented, batch, row) for row in range(8)]
             for batch in (together, noisy(later[:8]), other(PAIRS[:8]))]  # fmt: skip
    assert texts[0] != texts[1], "an epoch later the row has another noise"
    assert texts[0] != texts[2], "and so with another seed"


def test_a_copy_that_leaves_no_room_for_the_target_is_left_out(augmented: Any) -> None:
    lengths = collator(augmented, scramble=1)(PAIRS)["attention_mask"].sum(1)
    limit = int(lengths.median())
    batch = collator(augmented, max_length=limit, scramble=1)(PAIRS)
    assert batch["input_ids"].shape[1] == limit
    ends = [int(row[row != -100][-1]) for row in batch["labels"]]
    assert set(ends) == {augmented.tokenizer.eos_token_id}, "no target was cut"
    left_out = batch["attention_mask"].sum(1) != lengths
    assert torch.equal(left_out, lengths > limit)
    empty = own_text(augmented, collator(augmented, drop=1)(PAIRS[:1]), 0)
    assert {own_text(augmented, batch, row) for row in left_out.nonzero().flatten().tolist()} == {empty}


def test_the_collator_of_all_rows_stays_as_it_is(augmented: Any) -> None:
    plain = LabelledCollator(augmented, max_encoder_length=64, max_length=600)
    before = plain(PAIRS)
    noisy = plain.with_noise(TextNoise(drop=1), 42)
    assert not torch.equal(noisy(PAIRS)["attention_mask"], before["attention_mask"])
    assert torch.equal(plain(PAIRS)["input_ids"], before["input_ids"])
    assert noisy.misfits(PAIRS) == plain.misfits(PAIRS)
    assert noisy.identity == plain.identity
    assert noisy.cuts is plain.cuts


def test_shares_are_of_all_rows() -> None:
    with pytest.raises(LangBridgeError, match=r"more than all rows"):
        TextNoise.read({"drop": 0.6, "scramble": 0.5}, "text_noise")
    assert not TextNoise()
