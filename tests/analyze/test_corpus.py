"""Parallel text in its layouts, and what is said of text that is not parallel."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from langbridge.analyze.corpus import read_corpus
from langbridge.errors import LangBridgeError

NTREX = Path(__file__).parents[2] / ".." / "shared" / "data" / "ntrex"


def write_rows(path: Path, language: str, ids, key: str = "lang", field: str = "text") -> None:
    rows = [{"id": i, key: language, field: f"{language} {i}"} for i in ids]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_are_put_together_by_id_in_any_order(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", "sw", range(12))
    write_rows(tmp_path / "b.jsonl", "en", reversed(range(1, 14)))
    corpus = read_corpus(tmp_path)
    assert corpus.languages == ("sw", "en")
    assert corpus.ids == tuple(map(str, range(1, 12)))
    assert corpus.incomplete == 3, "sentence 0 is missing in English, 12 and 13 in Swahili"
    assert corpus.texts[1][2] == "en 3"
    reordered = read_corpus(tmp_path, ["en", "sw"], limit=10)
    assert reordered.languages == ("en", "sw")
    assert reordered.ids == tuple(map(str, range(11, 1, -1))), "in the order of the first language"


def test_one_file_with_other_names_of_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": f"q{i}", "language": code, "question": "x"} for code in ("en", "te") for i in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_corpus(path, field="question").languages == ("en", "te")


@pytest.mark.parametrize("names", [("eng", "swh"), ("eng_Latn", "swh_Latn")], ids=["101", "200"])
def test_flores(tmp_path: Path, names: tuple[str, str]) -> None:
    (tmp_path / "dev").mkdir()
    for name in names:
        # U+2028 inside a sentence is no end of a line, and Windows ends are no text.
        (tmp_path / "dev" / f"{name}.dev").write_bytes("".join(f"{name}\u2028 {i}\r\n" for i in range(11)).encode())
    for folder in (tmp_path, tmp_path / "dev"):
        corpus = read_corpus(folder)
        assert corpus.languages == names
        assert len(corpus) == 11
        assert corpus.texts[0][10] == f"{names[0]}\u2028 10"


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_flores_plus(tmp_path: Path, ending: str) -> None:
    for split in ("dev", "devtest"):
        (tmp_path / split).mkdir()
        for code, script in (("eng", "Latn"), ("swh", "Latn")):
            rows = [
                {"id": i, "iso_639_3": code, "iso_15924": script, "text": f"{code} {i} {split}", "has_image": "no"}
                for i in range(11)
            ]
            path = tmp_path / split / f"{code}_{script}.{ending}"
            if ending == "parquet":
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
            else:
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "notes.txt").write_text("not rows\n")
    for folder in (tmp_path, tmp_path / "dev"):
        corpus = read_corpus(folder)
        assert corpus.languages == ("eng_Latn", "swh_Latn")
        assert corpus.texts[1][10] == "swh 10 dev"


def test_what_is_not_parallel_is_named(tmp_path: Path) -> None:
    def says(path: Path, *words: str, **options) -> None:
        with pytest.raises(LangBridgeError) as error:
            read_corpus(path, **options)
        for word in words:
            assert word in str(error.value)

    says(tmp_path / "nothing", "nothing")
    says(tmp_path, "neither files with rows", "FLORES")
    rows = tmp_path / "rows"
    rows.mkdir()
    write_rows(rows / "en.jsonl", "en", range(12))
    says(rows, "two or more languages", "en")
    write_rows(rows / "sw.jsonl", "sw", range(5, 17))
    says(rows, "7 sentences", "at least 10", "sw 12")
    says(rows, "'te'", "it has en, sw", languages=["en", "te"])
    says(rows, "once", languages=["en", "en"])
    says(rows, "row 1", "'question'", field="question")
    write_rows(rows / "sw.jsonl", "sw", [*range(12), 4])
    says(rows, "sw.jsonl, row 13", "id 4", "twice")
    write_rows(rows / "sw.jsonl", "sw", range(12))
    says(rows, "--limit", limit=3)
    (rows / "sw.jsonl").write_text('{"id": null, "lang": "sw", "text": "x"}\n')
    says(rows, "sw.jsonl, row 1", "'id'")
    (rows / "sw.jsonl").write_text('{"id": 1, "text": "x"}\n')
    says(rows, "sw.jsonl, row 1", "'lang'")
    (rows / "sw.jsonl").write_text(
        '{"id": 1, "lang": "sw", "text": "x"}\n{"id": 2, "language": "swahili", "text": "x"}\n'
    )
    says(rows, "sw.jsonl, row 2", "language: expected a code such as 'sw'", "got 'swahili'")

    flores = tmp_path / "flores"
    flores.mkdir()
    (flores / "eng.devtest").write_text("a\n" * 12)
    (flores / "swh.devtest").write_text("a\n" * 13)
    says(flores, "eng 12, swh 13", "not parallel")
    (flores / "swh.devtest").write_text("a\n" * 5 + "\n" + "a\n" * 6)
    says(flores, "swh.devtest, line 6", "empty")
    (flores / "swh.devtest").write_bytes(b"a\xff\n")
    says(flores, "row 1: not UTF-8 (byte 2 of the row)")
    (flores / "swahili.devtest").write_text("a\n" * 12)
    (flores / "swh.devtest").unlink()
    says(flores, "swahili.devtest", "language: expected a code such as 'sw'", "got 'swahili'")


@pytest.mark.skipif(not NTREX.is_dir(), reason="NTREX is not beside the project")
def test_ntrex() -> None:
    corpus = read_corpus(NTREX, ["en", "sw", "te"])
    assert len(corpus) == 1997
    assert corpus.incomplete == 0
    assert corpus.texts[0][0].startswith("Welsh AMs worried")
