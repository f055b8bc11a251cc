"""JSON lines and whole files: what is written can be read, and a failure leaves what was there."""

import stat
from pathlib import Path

import pytest

from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl, write_atomically, write_jsonl


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"text": "a\nb\u2028c", "n": 1}, {"text": "ไทย", "deep": {"list": [1, None]}}]
    write_jsonl(tmp_path / "new" / "rows.jsonl", rows)
    assert [row for _, row in read_jsonl(tmp_path / "new" / "rows.jsonl")] == rows
    assert "ไทย" in (tmp_path / "new" / "rows.jsonl").read_text(encoding="utf-8"), "readable, not escaped"


def test_reading_stops_at_the_first_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(LangBridgeError, match=r"rows\.jsonl, row 2: broken JSON"):
        list(read_jsonl(path))


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new, but \ud800 cannot be encoded")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
