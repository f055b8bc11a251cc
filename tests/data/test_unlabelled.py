"""Unlabelled batches: the drawn lengths, what is read, what is written, and where it ends."""

import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from langbridge.data import BatchRow, Data, TextExample, UnlabelledCollator, drawn_lengths, open_data
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl

IGNORE = -100
BOUNDS = {"min_encoder_length": 6, "max_encoder_length": 24, "min_lm_length": 10, "max_length": 48}
# The first three draws of seed 42, as this project first made them (Mersenne Twister, CPython 3.11).
GOLDEN = [(915, 170), (699, 266), (904, 131)]
WORDS = ["The", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "has", "3", "apples"]


def text(number: int, words: int) -> str:
    rng = random.Random(number)
    return " ".join(rng.choice(WORDS) for _ in range(words))


@pytest.fixture
def collate(processor: Any) -> UnlabelledCollator:
    return UnlabelledCollator(processor, seed=5, with_rows=True, **BOUNDS)


def learned(batch: dict[str, Any], row: int) -> list[int]:
    return [label for label in batch["labels"][row].tolist() if label != IGNORE]


def read(batch: dict[str, Any], row: int) -> list[int]:
    return batch["encoder_input_ids"][row, : int(batch["encoder_attention_mask"][row].sum())].tolist()


def test_the_papers_draw() -> None:
    drawn = [drawn_lengths(42, step) for step in range(4000)]
    encoder = [lengths.encoder for lengths in drawn]
    assert (min(encoder), max(encoder)) == (32, 1024)
    # Of U[32, 1024]: mean 528, standard deviation 286.7; its standard error over 4,000 draws is 4.5.
    assert abs(statistics.mean(encoder) - 528) < 14
    assert all(128 <= lengths.lm <= 1152 - lengths.encoder for lengths in drawn)
    assert {lengths.lm for lengths in drawn if lengths.encoder == 1024} == {128}
    assert len(set(drawn)) > 3900


def test_the_draw_is_a_function_of_seed_and_step_alone() -> None:
    # A change of the draw would change every run that is gone on with.
    assert [drawn_lengths(42, step) for step in range(3)] == GOLDEN
    random.seed(0)
    assert drawn_lengths(42, 1) == GOLDEN[1]
    assert drawn_lengths(43, 1) != GOLDEN[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_draw_the_same_lengths_and_so_does_a_run_that_goes_on(
    tokenizers: dict[str, Any], tmp_path: Path, workers: int
) -> None:
    from langbridge.model import LangBridgeProcessor

    processor = LangBridgeProcessor(tokenizers["llama"], tokenizers["mt5"])
    write_jsonl(tmp_path / "rows.jsonl", [{"text": text(i, 60)} for i in range(64)])
    table = open_data(Data(path=str(tmp_path / "rows.jsonl")), regime="unlabelled", seed=0)
    collate = UnlabelledCollator(processor, seed=5, **BOUNDS)

    def widths(rank: int, first: int = 0) -> list[int]:
        """As a sampler on this rank would ask: other rows than the other rank's, the same steps."""
        sampler = [[BatchRow(8 * step + 4 * rank + i, step) for i in range(4)] for step in range(first, 8)]
        loader = DataLoader(table, batch_sampler=sampler, num_workers=workers, collate_fn=collate)
        return [batch["encoder_input_ids"].shape[1] for batch in loader]

    def streamed(rank: int, first: int = 0) -> list[int]:
        data = Data(path=str(tmp_path / "rows.jsonl"), streaming=True)
        stream = open_data(data, regime="unlabelled", seed=0, batch_size=4, rank=rank, world_size=2)
        stream.load_state_dict({"epoch": 0, "examples": 4 * first})
        loader = DataLoader(stream, batch_size=4, num_workers=workers, collate_fn=collate)
        return [batch["encoder_input_ids"].shape[1] for batch in loader]

    expected = [drawn_lengths(5, step, **BOUNDS).encoder for step in range(8)]
    assert len(set(expected)) > 3
    for way in (widths, streamed):
        assert way(0) == way(1) == expected
        assert way(1, first=5) == expected[5:], "a run that goes on draws what it would have drawn"


def test_prefix_and_continuation_reach_the_models_whole(collate: UnlabelledCollator) -> None:
    tokenizer, encoder = collate.processor.tokenizer, collate.processor.encoder_tokenizer
    examples = [TextExample(text(i, 16), f"t:{i}", step=4) for i in range(3)]
    lengths = collate.lengths(examples)
    batch = collate(examples)
    assert batch["rows"] == ["t:0", "t:1", "t:2"]
    assert batch["encoder_input_ids"].shape[1] <= lengths.encoder
    assert batch["input_ids"].shape[1] <= lengths.encoder + lengths.lm
    for row, example in enumerate(examples):
        prefix = encoder.decode(read(batch, row), skip_special_tokens=True)
        written = tokenizer.decode(learned(batch, row), skip_special_tokens=True)
        assert example.text.startswith(prefix.strip())
        assert written.strip()
        assert example.text.removeprefix(prefix).strip().startswith(written.strip())


def test_only_a_text_that_ends_ends_in_eos(collate: UnlabelledCollator) -> None:
    """Length by length across the limit: EOS is learned exactly where the text's last word is."""
    tokenizer = collate.processor.tokenizer
    ended = set()
    for words in range(12, 80):
        example = TextExample(text(1, words) + " log.", step=2)
        batch = collate([example])
        labels = learned(batch, 0)
        whole = tokenizer.decode([i for i in labels if i != tokenizer.eos_token_id]).endswith("log.")
        assert (labels[-1] == tokenizer.eos_token_id) == whole, words
        ended.add(whole)
        real = int(batch["attention_mask"][0].sum())
        assert (batch["labels"][0, real:] == IGNORE).all()
    assert ended == {True, False}


def test_a_text_shorter_than_the_draw_is_cut_in_proportion(collate: UnlabelledCollator) -> None:
    short = text(2, 11)
    tokens = len(collate.processor.encoder_tokenizer(short)["input_ids"])
    found = {}
    for step in range(40):
        lengths = collate.lengths([TextExample(short, step=step)])
        batch = collate([TextExample(short, step=step)])
        found[lengths.encoder] = len(read(batch, 0))
        assert learned(batch, 0)
    assert max(found.values()) < tokens
    drawn = sorted(length for length in found if length >= tokens)
    assert [found[length] for length in drawn] == sorted(found[length] for length in drawn)
    assert all(found[length] <= length for length in found)


@pytest.mark.parametrize("short", ["", "T", "a a", "a" + " " * 90])
def test_a_text_too_short_to_split_is_a_misfit_and_never_a_target(collate: UnlabelledCollator, short: str) -> None:
    example = TextExample(short, "rows.jsonl:9", step=0)
    (misfit,) = collate.misfits([example])
    assert misfit is not None
    assert misfit.reason == "too short to split"
    assert str(misfit).startswith("rows.jsonl:9: the text is too short, expected more than 6 encoder tokens")
    for step in range(10):
        with pytest.raises(LangBridgeError, match="too short"):
            collate([TextExample(text(0, 30), step=step), TextExample(short, "rows.jsonl:9", step=step)])


def test_what_is_no_misfit_can_be_split_at_every_draw(collate: UnlabelledCollator) -> None:
    for words in range(1, 30):
        example = text(words, words)
        fits = collate.misfits([TextExample(example)]) == [None]
        for step in range(12):
            if fits:
                assert learned(collate([TextExample(example, step=step)]), 0)


def test_short_texts_are_skipped_and_counted_by_what_opens_them(tokenizers: dict[str, Any], tmp_path: Path) -> None:
    from langbridge.model import LangBridgeProcessor

    processor = LangBridgeProcessor(tokenizers["opt"], tokenizers["mt5"])
    collate = UnlabelledCollator(processor, seed=0, **BOUNDS)
    write_jsonl(tmp_path / "a.jsonl", [{"text": text(i, 40) if i % 3 else "a"} for i in range(9)])
    for streaming in (False, True):
        data = Data(path=str(tmp_path / "a.jsonl"), streaming=streaming)
        opened = open_data(data, regime="unlabelled", seed=0, judge=collate)
        assert len(list(opened)) == 6
        assert opened.skipped.counts == {"too short to split": 3}


def test_a_text_that_holds_the_mark_of_soft_prompts_is_a_bad_row(tokenizers: dict[str, Any]) -> None:
    from langbridge.model import LangBridgeProcessor

    processor = LangBridgeProcessor(tokenizers["llama"], tokenizers["mt5"])
    collate = UnlabelledCollator(processor, seed=0, **BOUNDS)
    example = TextExample(text(0, 20) + " <unk> and", "rows.jsonl:3", step=0)
    (misfit,) = collate.misfits([example])
    assert misfit is not None
    assert misfit.reason == "mark of soft prompts"
    assert str(misfit).startswith("rows.jsonl:3: the text contains '<unk>', the token that marks soft prompts; ")


def test_rows_without_a_step_draw_by_what_they_are(collate: UnlabelledCollator) -> None:
    one, other = ([TextExample(text(i, 60), f"held_out.jsonl:{i}")] for i in (1, 2))
    assert collate.lengths(one) == collate.lengths(one)
    assert collate.lengths(one) != collate.lengths(other)


def test_a_batch_of_several_steps_is_an_error(collate: UnlabelledCollator) -> None:
    with pytest.raises(
        LangBridgeError, match=r"tagged for the steps \['1', '2'\]; open the stream with the batch size"
    ):
        collate([TextExample("a", step=1), TextExample("b", step=2)])


def test_the_bounds_must_leave_room_for_both(tokenizers: dict[str, Any]) -> None:
    from langbridge.model import LangBridgeProcessor

    processor = LangBridgeProcessor(tokenizers["opt"], tokenizers["mt5"], encoder_length_limit=16)
    with pytest.raises(LangBridgeError, match="max_length: 40 is less than max_encoder_length 16 and min_lm_length 30"):
        UnlabelledCollator(processor, seed=0, **{**BOUNDS, "min_lm_length": 30, "max_length": 40})
    with pytest.raises(LangBridgeError, match="min_encoder_length: 17 is more than max_encoder_length 16"):
        UnlabelledCollator(processor, seed=0, **{**BOUNDS, "min_encoder_length": 17})


@pytest.mark.parametrize("name", ["unlabelled_stacks_project", "unlabelled_wikitext2"])
def test_real_texts(tokenizers: dict[str, Any], name: str) -> None:
    path = Path(__file__).parents[2] / f"../shared/data/train/{name}.jsonl"
    if not path.is_file():
        pytest.skip("needs unlabelled texts beside the project")
    from langbridge.model import LangBridgeProcessor

    collate = UnlabelledCollator(LangBridgeProcessor(tokenizers["qwen"], tokenizers["mt5"]), seed=0)
    table = open_data(Data(path=str(path)), regime="unlabelled", seed=0, judge=collate)
    for step in range(4):
        batch = collate([table[BatchRow(4 * step + i, step)] for i in range(4)])
        assert batch["input_ids"].shape[1] <= 1152
        assert all(learned(batch, row) for row in range(4))
