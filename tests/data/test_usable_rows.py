"""What a collator says of the rows of a table is asked once, as long as the same would be said."""

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from langbridge.data import CausalCollator, Data, LabelledCollator, RowTable, UnlabelledCollator, open_data
from langbridge.data.examples import Example, Judge
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, write_jsonl

ROWS = 1500  # more than a batch of those that a judge is asked about


class Refusing:
    """Refuses what it is told to, and counts what it is asked about."""

    accepts_all = False

    def __init__(self, *refused: int, identity: str | None = "", reason: str = "target cut whole") -> None:
        self.refused, self.reason, self.asked = refused, reason, 0
        self.identity = f"refuses {refused}" if identity == "" else identity

    def misfits(self, examples: Sequence[Example]) -> list[BadRow | None]:
        self.asked += len(examples)
        return [BadRow(e.origin, self.reason) if int(e.prompt) in self.refused else None for e in examples]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "rows.jsonl", [{"query": str(i), "response": "yes"} for i in range(ROWS)])
    return tmp_path / "rows.jsonl"


def fitting(path: Path, judge: Judge, on_bad_row: Any = "skip") -> RowTable:
    return open_data(Data(path=str(path), on_bad_row=on_bad_row), regime="labelled", seed=0, judge=judge)


def test_the_second_time_nothing_is_asked_and_the_rows_are_the_same(path: Path) -> None:
    first, second = (Refusing(3, 1200), Refusing(3, 1200))
    before, now = fitting(path, first), fitting(path, second)
    assert (first.asked, second.asked) == (ROWS, 0)
    assert [row.prompt for row in now] == [row.prompt for row in before]
    assert len(now) == ROWS - 2
    assert now.skipped.counts == before.skipped.counts == {"target cut whole": 2}
    assert now.skipped.first == before.skipped.first == [f"{path}:4", f"{path}:1201"]
    assert now.shares == before.shares == {str(path): (ROWS - 2, ROWS)}


def test_a_judge_of_another_identity_is_asked_anew(path: Path) -> None:
    fitting(path, Refusing(3))
    assert len(fitting(path, other := Refusing(3, 4, 5))) == ROWS - 3
    assert other.asked == ROWS


def test_a_judge_that_cannot_tell_its_identity_is_asked_each_time(path: Path) -> None:
    for _ in range(2):
        assert len(fitting(path, judge := Refusing(3, identity=None))) == ROWS - 1
        assert judge.asked == ROWS


def test_a_changed_file_is_judged_anew(path: Path) -> None:
    fitting(path, Refusing(3))
    write_jsonl(path, [{"query": str(i), "response": "no"} for i in range(10)])
    assert len(fitting(path, judge := Refusing(3))) == 9
    assert judge.asked == 10


def test_what_was_left_out_before_is_an_error_where_errors_are_asked_for(path: Path) -> None:
    fitting(path, Refusing(1200))
    for _ in range(2):
        with pytest.raises(BadRow, match=r"rows\.jsonl:1201"):
            fitting(path, Refusing(1200), "error")


def test_where_no_row_is_left_the_reason_is_what_these_rows_lack(path: Path) -> None:
    write_jsonl(path, [{"query": "", "response": "yes"}, {"query": "1", "response": "yes"}])
    with pytest.raises(LangBridgeError, match=r"none of the 1 rows can be used; the first: .*rows\.jsonl:2$"):
        fitting(path, Refusing(1))


def test_a_spoilt_record_is_made_again(path: Path, cache: Path) -> None:
    fitting(path, Refusing(3))
    (record,) = cache.rglob("judged-*.npz")
    for spoilt in (b"", record.read_bytes()[:60], b"not a zip file at all"):
        record.write_bytes(spoilt)
        assert len(fitting(path, judge := Refusing(3))) == ROWS - 1
        assert judge.asked == ROWS
    assert len(fitting(path, Refusing(3))) == ROWS - 1


def test_what_takes_long_shows_how_far_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitting(path, Refusing(3, identity=None))
    assert capsys.readouterr().err == "", "a moment is no reason to show anything"
    clock = itertools.count(step=60)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    write_jsonl(path, [{"query": str(i), "response": "yes"} for i in range(ROWS + 1)])
    fitting(path, Refusing(3))
    shown = capsys.readouterr().err
    assert "preparing rows" in shown
    assert f"judging rows: 100%|██████████| {ROWS + 1}/{ROWS + 1}" in shown


def test_the_collators_tell_apart_what_would_judge_differently(processor: Any) -> None:
    def judges(processor: Any, longest: int = 256, template: str = "{prompt}") -> list[Any]:
        made = copy.copy(processor)
        made.template = template
        bounds = {"max_encoder_length": 64, "max_length": longest}
        return [
            LabelledCollator(made, **bounds),
            UnlabelledCollator(made, seed=1, min_encoder_length=8, min_lm_length=16, **bounds),
            CausalCollator(made.tokenizer, template=template, max_length=longest),
        ]

    other = copy.copy(processor)
    other.tokenizer = copy.deepcopy(processor.tokenizer)
    other.tokenizer.add_tokens(["Tom has"])
    same, again, longer, templated, retokenised = (
        [judge.identity for judge in made]
        for made in (
            judges(processor),
            judges(processor),
            judges(processor, longest=300),
            judges(processor, template="Q: {prompt}"),
            judges(other),
        )
    )
    assert same == again
    for changed in (longer, templated, retokenised):
        assert all(a != b for a, b in zip(same, changed, strict=True))
    processor.encoder_tokenizer(["a", "a long one"], padding="longest", truncation=True, max_length=2)
    processor.tokenizer(["a long one"], truncation=True, max_length=2)
    assert [judge.identity for judge in judges(processor)] == same, "what a call sets is no part of it"
    for tokenizer in (processor.tokenizer, processor.encoder_tokenizer):
        assert len(tokenizer(["a", "a"], truncation=True, max_length=1)["input_ids"][0]) == 1, "and calls still work"
