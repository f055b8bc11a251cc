"""A long list of requests in blocks, each answered once and kept until all are, however often the run is cut off."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from langbridge.files import read_jsonl, write_jsonl
from langbridge.serve.engine import Decoding, Request, digest

_MOST = 10_000
"""Blocks of one run; with more rows each has more than a batch."""
_TEXT = "text"
_SMALL = (".json", ".jinja", ".model", ".safetensors")


@dataclass(frozen=True)
class Block:
    """places: of its requests in the whole list. file: of its answers, one a line, as soon as they are there."""

    places: Sequence[int]
    requests: Sequence[Request]
    file: Path

    @property
    def done(self) -> bool:
        return self.file.is_file()

    def keep(self, answers: Sequence[str]) -> None:
        """Write its answers, in one step."""
        assert len(answers) == len(self.places), "an answer a request"
        write_jsonl(self.file, [{_TEXT: answer} for answer in answers])

    def answers(self) -> list[str]:
        return [row[_TEXT] for _, row in read_jsonl(self.file)]


class Blocks:
    """Requests cut into blocks of like length, the longest first, whose answers are kept in `folder`.

    A block's file is named after everything that its answers depend on, so what another run left there is never taken
    for this one's. model: what stands for the model in that.
    """

    def __init__(self, folder: Path, requests: Sequence[Request], decoding: Decoding, batch_size: int, model: str):
        self.folder, self._count = folder, len(requests)
        size = batch_size * max(1, ceil(len(requests) / (batch_size * _MOST)))
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place].prompt))
        cuts = [order[start : start + size] for start in range(0, len(order), size)]
        settings = {"model": model, "decoding": _plain(asdict(decoding))}
        self.blocks = [self._block(number, cut, requests, settings) for number, cut in enumerate(cuts)]

    def answers(self) -> list[str]:
        """All answers, in the order of the requests, once none is missing."""
        found = [""] * self._count
        for block in self.blocks:
            for place, answer in zip(block.places, block.answers(), strict=True):
                found[place] = answer
        return found

    def _block(self, number: int, places: list[int], requests: Sequence[Request], settings: dict[str, Any]) -> Block:
        own = [requests[place] for place in places]
        key = digest({**settings, "requests": [asdict(one) for one in own]})
        return Block(places, own, self.folder / f"{number:06d}-{key}.jsonl")


def folder_digest(folder: Path) -> str:
    """A hash over the settings and weights that a model's folder holds itself."""
    found = hashlib.sha256()
    for path in sorted(one for one in folder.iterdir() if one.suffix in _SMALL):
        with path.open("rb") as file:
            found.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in settings.items()}
