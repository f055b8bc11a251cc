"""What of an unfinished text can be told."""

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from langbridge.serve.generation import Ending, Growing


def test_half_a_character_does_not_hide_the_beginning_of_a_stop_string() -> None:
    """Byte by byte, a stop string in another script ends in half a character on its way."""
    ending = Ending(frozenset(), ("\nప్రశ్న:",), lambda ids: "")
    assert ending.settled("సరే 28\nప్ర\N{REPLACEMENT CHARACTER}") == "సరే 28"
    assert ending.settled("సరే 28\N{REPLACEMENT CHARACTER}") == "సరే 28"
    assert ending.settled("సరే 28\nప్రా") == "సరే 28\nప్రా"


@pytest.mark.parametrize("role", [0, 1])
def test_text_that_grows_is_the_text_of_all_its_tokens(base_folders: tuple[Path, Path], role: int) -> None:
    """At every step, of words in several scripts and of tokens that make no sense together."""
    tokenizer = AutoTokenizer.from_pretrained(base_folders[role])
    rng = random.Random(3)
    rows = [tokenizer("So a b , b c d.\n\n  b సరే 28 \N{GRINNING FACE}")["input_ids"]]
    rows += [[rng.randrange(len(tokenizer)) for _ in range(60)] for _ in range(20)]
    for ids in rows:
        growing = Growing(Ending(frozenset(), (), lambda row: str(tokenizer.decode(row, skip_special_tokens=True))))
        for end in range(1, len(ids) + 1):
            assert growing.of(ids[:end]) == tokenizer.decode(ids[:end], skip_special_tokens=True), ids[:end]
