"""Rows read while training: one order for all, nobody's row twice, and going on where it was."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from langbridge.data import Data, RowStream, Source, open_data
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, write_jsonl

ROWS, BATCH = 111, 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in range(3):
        write_jsonl(tmp_path / f"{file}.jsonl", [{"text": f"text {file} {row}"} for row in range(ROWS // 3)])
    return tmp_path


def stream(place: Path | str | None, batch: int = BATCH, **settings: Any) -> RowStream:
    own = {key: settings.pop(key) for key in ("rank", "world_size", "judge") if key in settings}
    data = Data(**{"path": place and str(place), "streaming": True, "shuffle_buffer": 20, **settings})
    opened = open_data(data, regime="unlabelled", seed=3, batch_size=batch, **own)
    assert isinstance(opened, RowStream)
    return opened


def batches(opened: RowStream, workers: int = 0) -> list[list[tuple[str, int]]]:
    loader = DataLoader(opened, batch_size=opened.batch_size, num_workers=workers, collate_fn=list)
    return [[(row.text, row.step) for row in batch] for batch in loader]


def test_an_epoch_is_every_row_once_in_an_order_of_its_own(folder: Path) -> None:
    opened = stream(folder)
    first = [row.text for row in opened]
    assert sorted(first) == sorted(f"text {file} {row}" for file in range(3) for row in range(ROWS // 3))
    assert [row.text for row in stream(folder)] == first
    opened.set_epoch(1)
    second = [row.text for row in opened]
    assert sorted(second) == sorted(first)
    assert second != first
    assert stream(folder / "0.jsonl", shuffle_buffer=1).__iter__().__next__().origin == f"{folder / '0.jsonl'}:1"


def test_the_buffer_bounds_how_far_a_row_is_moved(folder: Path) -> None:
    order = [int(row.text.split()[2]) for row in stream(folder / "1.jsonl", shuffle_buffer=10)]
    assert order != sorted(order)
    assert all(abs(place - row) < 10 for place, row in enumerate(order))


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_the_order_and_no_row_comes_twice(folder: Path, ranks: int, workers: int) -> None:
    alone = batches(stream(folder))
    each = [batches(stream(folder, BATCH // ranks, rank=r, world_size=ranks), workers) for r in range(ranks)]
    assert len({len(one) for one in each}) == 1, "ranks that make unequal steps wait for each other for ever"
    together = [list(chain(*parts)) for parts in zip(*each, strict=True)]
    assert together == alone[: len(together)]
    # With one rank the last, short batch is there; with several it is left out.
    assert len(together) == (ROWS + BATCH - 1) // BATCH if ranks == 1 else ROWS // BATCH
    seen = [text for batch in together for text, _ in batch]
    assert len(set(seen)) == len(seen)
    assert [{step for _, step in batch} for batch in together] == [{step} for step in range(len(together))]


@pytest.mark.parametrize(("done", "workers"), [(1, 0), (5, 0), (13, 0), (5, 2)])
def test_going_on_gives_what_an_uninterrupted_run_would_have_seen(folder: Path, done: int, workers: int) -> None:
    whole = stream(folder)
    whole.set_epoch(2)
    resumed = stream(folder)
    resumed.load_state_dict({"epoch": 2, "examples": done * BATCH})
    assert batches(resumed, workers) == batches(whole)[done:]


def test_a_state_taken_in_the_middle_is_exact_to_the_row(folder: Path) -> None:
    opened = stream(folder)
    rows = [row.text for row in opened]
    for taken in (0, 1, 7, 8, 50, ROWS):
        opened.set_epoch(0)
        iterator: Iterator[Any] = iter(opened)
        for _ in range(taken):
            next(iterator)
        state = opened.state_dict()
        assert state == {"epoch": 0, "examples": taken}
        other = stream(folder)
        other.load_state_dict(state)
        assert [row.text for row in other] == rows[taken:]


def test_a_run_may_go_on_with_other_ranks(folder: Path) -> None:
    alone = batches(stream(folder))
    each = []
    for rank in range(2):
        opened = stream(folder, BATCH // 2, rank=rank, world_size=2)
        opened.load_state_dict({"epoch": 0, "examples": 6 * BATCH // 2})
        each.append(batches(opened))
    assert [list(chain(*parts)) for parts in zip(*each, strict=True)] == alone[6:13]


def test_weights_hold_until_the_first_source_ends(tmp_path: Path) -> None:
    for name, count in (("a", 400), ("b", 4000)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {row}"} for row in range(count)])
    sources = (Source(path=str(tmp_path / "a.jsonl"), weight=1), Source(path=str(tmp_path / "b.jsonl"), weight=3))
    texts = [row.text for row in stream(None, sources=sources)]
    assert len(set(texts)) == len(texts)
    share = sum(text.startswith("a") for text in texts) / len(texts)
    assert abs(share - 0.25) < 0.03  # two standard errors of 1,600 draws are .022
    unweighted = tuple(Source(path=source.path) for source in sources)
    assert len({row.text for row in stream(None, sources=unweighted)}) == 4400


def test_bad_rows_are_counted_whoever_meets_them(folder: Path) -> None:
    for file in range(3):
        with (folder / f"{file}.jsonl").open("a") as lines:
            lines.write('{"text": ""}\n' + "{\n" * 4)
    for workers in (0, 2):
        opened = stream(folder, on_bad_row="skip")
        assert sum(map(len, batches(opened, workers))) == ROWS
        assert opened.skipped.counts == {"broken JSON": 12, "empty text": 3}
        assert len(opened.skipped.first) == 10
        assert f"row {ROWS // 3 + 1}, field 'text': the text is empty" in opened.skipped.first[0]
    with pytest.raises(BadRow, match=r"\.jsonl, row 38, field 'text': the text is empty"):
        list(stream(folder))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_row_counts_once_however_many_epochs_begin(folder: Path, workers: int) -> None:
    with (folder / "1.jsonl").open("a") as lines:
        lines.write("{\n" * 4)
    opened = stream(folder, on_bad_row="skip", shuffle_buffer=1)
    next(iter(opened))  # as what looks at the first rows does
    for epoch in range(2):
        opened.set_epoch(epoch)
        batches(opened, workers)
        assert opened.skipped.counts == {"broken JSON": 4}
    opened.set_epoch(2)
    next(iter(opened))
    assert opened.skipped.counts == {"broken JSON": 4}, "an epoch that has only begun takes nothing away"


def test_a_bad_row_that_a_worker_meets_is_told_in_one_line(folder: Path) -> None:
    (folder / "1.jsonl").write_text('{"text": "a"}\n{"text"}\n')
    with pytest.raises(BadRow) as caught:
        batches(stream(folder), workers=1)
    assert str(caught.value) == f"{folder / '1.jsonl'}, row 2: broken JSON at column 8: Expecting ':' delimiter"


class Judge:
    accepts_all = False
    identity = None

    def misfits(self, examples: list[Any]) -> list[BadRow | None]:
        return [BadRow(row.origin, "too short to split") if row.text.endswith("1") else None for row in examples]


def test_a_judge_leaves_out_what_it_cannot_use(folder: Path) -> None:
    opened = stream(folder, judge=Judge())
    assert len(list(opened)) == ROWS - 12
    assert opened.skipped.counts == {"too short to split": 12}


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(20)]}).to_iterable_dataset()
    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **settings: asked.append(settings) or rows)
    found = list(stream("owner/name"))
    assert sorted(row.text for row in found) == sorted(f"row {i}" for i in range(20))
    assert {row.origin for row in found} == {f"owner/name:{i}" for i in range(1, 21)}
    assert asked[0]["streaming"] is True


def test_mistakes_are_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LangBridgeError, match="no such file"):
        stream(tmp_path / "absent.jsonl")
    with pytest.raises(LangBridgeError, match="rank: expected 0 to 1, got 2"):
        stream(folder, rank=2, world_size=2)
    with pytest.raises(LangBridgeError, match="batch_size: expected at least 1, got 0"):
        stream(folder, 0)
    with pytest.raises(LangBridgeError, match="state: expected epoch and examples, got step"):
        stream(folder).load_state_dict({"step": 3})
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "rows.jsonl").write_text("{\n")
    with pytest.raises(LangBridgeError, match="no row in it that can be used; 1 rows left out"):
        list(stream(tmp_path / "empty", on_bad_row="skip"))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert (stream(folder).rank, stream(folder).world_size) == (1, 3)
