"""Answers in blocks: each kept once, put together in order, and found again by what they depend on."""

from pathlib import Path

import pytest

from langbridge.serve.blocks import Blocks, folder_digest
from langbridge.serve.engine import Decoding, Request

REQUESTS = [Request("x" * (1 + 7 * place % 5) + str(place)) for place in range(11)]
FEW = Decoding(4, stop=["\n"])


def blocks(folder: Path, requests: list[Request] = REQUESTS, decoding: Decoding = FEW, model: str = "m") -> Blocks:
    return Blocks(folder, requests, decoding, 3, model)


def done(some: Blocks) -> list[bool]:
    return [block.done for block in some.blocks]


def test_answers_come_out_in_the_order_of_the_requests(tmp_path: Path) -> None:
    some = blocks(tmp_path)
    assert [len(block.places) for block in some.blocks] == [3, 3, 3, 2]
    assert sorted(place for block in some.blocks for place in block.places) == list(range(11))
    lengths = [len(one.prompt) for block in some.blocks for one in block.requests]
    assert lengths == sorted(lengths, reverse=True), "like lengths together, the longest first"
    for block in reversed(some.blocks):
        block.keep([f"{one.prompt}\u2028!" for one in block.requests])  # no end of a line to anybody but str.splitlines
    assert some.answers() == [f"{one.prompt}\u2028!" for one in REQUESTS]


def test_what_is_kept_is_found_again_and_only_by_the_same_run(tmp_path: Path) -> None:
    first = blocks(tmp_path).blocks[1]
    first.keep(["a", "b", "c"])
    assert done(blocks(tmp_path)) == [False, True, False, False]
    assert not any(done(blocks(tmp_path, decoding=Decoding(5, stop=["\n"]))))
    assert not any(done(blocks(tmp_path, model="another")))
    changed = list(REQUESTS)
    changed[first.places[0]] = Request(first.requests[0].prompt, language="sw")
    assert not any(done(blocks(tmp_path, changed)))
    elsewhere = next(place for place in range(11) if place not in first.places)
    changed = list(REQUESTS)
    changed[elsewhere] = Request(changed[elsewhere].prompt, language="sw")
    assert done(blocks(tmp_path, changed))[1], "other rows cost their own blocks alone"


def test_very_many_rows_make_larger_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langbridge.serve.blocks._MOST", 2)
    assert [len(block.places) for block in blocks(tmp_path).blocks] == [6, 5]


def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = folder_digest(tmp_path)
    assert folder_digest(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert folder_digest(tmp_path) != before
