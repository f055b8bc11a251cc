"""Where a source's rows are: a file, a folder, a glob, a split; and what is asked of the hub."""

from pathlib import Path
from typing import Any

import pytest

from langbridge.data import Data, Source, open_data
from langbridge.data.sources import hub_dataset, local_files
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl


def touch(folder: Path, *names: str) -> None:
    """Make empty files, and the folders that they are in."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch(
        tmp_path,
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/test-00000-of-00001.parquet",
        "validation/en.jsonl.zst",
        "trained.csv",
        "README.md",
        ".cache/train.jsonl",
        ".train.jsonl.part",
    )
    return tmp_path


def names(folder: Path, source: Source) -> list[str]:
    files = local_files(source)
    assert files is not None
    return [str(file.relative_to(folder)) for file in files]


def test_a_folder_gives_its_data_files_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.csv", "b/1.jsonl.zst", "trained.txt", "B.parquet", "notes.md", ".a/1.csv")
    assert names(tmp_path, Source(path=str(tmp_path))) == ["B.parquet", "b/1.jsonl.zst", "b/2.csv", "trained.txt"]


def test_what_lies_beside_the_rows_of_a_clone_is_no_row(tmp_path: Path) -> None:
    about = ("dataset_infos.json", "dataset_dict.json", "data/dataset_info.json", "data/state.json", "config.json")
    touch(
        tmp_path, *about, "README.md", "README.txt", "LICENSE.txt", "requirements.txt", "data/rows.json", "b_state.json"
    )
    assert names(tmp_path, Source(path=str(tmp_path))) == ["b_state.json", "data/rows.json"]


def test_a_split_is_a_word_in_the_name_of_a_file_or_of_a_folder_inside(folder: Path) -> None:
    train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert names(folder, Source(path=str(folder), split="train")) == train
    assert names(folder, Source(path=str(folder))) == train, "where there are splits, as on the hub"
    assert names(folder, Source(path=str(folder), split="validation")) == ["validation/en.jsonl.zst"]
    assert names(folder, Source(path=str(folder), split="EN")) == ["validation/en.jsonl.zst"], "any word"
    with pytest.raises(LangBridgeError, match=r"no file of the split 'dev'; the folder has data/test-00000"):
        local_files(Source(path=str(folder), split="dev"))


def test_a_split_has_more_names_than_one(tmp_path: Path) -> None:
    for name in ("Training_1.csv", "dev2.csv", "en.val.csv", "eval.csv", "extra.csv"):
        (tmp_path / name).touch()
    for split, files in {
        None: ["Training_1.csv"],
        "train": ["Training_1.csv"],
        "validation": ["dev2.csv", "en.val.csv"],
        "dev": ["dev2.csv"],
        "test": ["eval.csv"],
    }.items():
        assert names(tmp_path, Source(path=str(tmp_path), split=split)) == files


def test_held_out_splits_alone_are_never_mixed(tmp_path: Path) -> None:
    (tmp_path / "test.csv").touch()
    assert names(tmp_path, Source(path=str(tmp_path))) == ["test.csv"]
    (tmp_path / "dev.csv").touch()
    with pytest.raises(LangBridgeError, match="the folder has the splits validation and test; choose one with `split`"):
        local_files(Source(path=str(tmp_path)))


def test_globs_and_files_may_have_any_name(folder: Path) -> None:
    assert names(folder, Source(path=str(folder / "**" / "t*-0000*"))) == [
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
    assert names(folder, Source(path=str(folder / "README.md"))) == ["README.md"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("*.csv.gz", "no such file, folder or glob with a match"),
        ("dat*", r"matches folders only, expected files; for files inside, write .*/dat\*/\*"),
        (".cache/train.csv", "no such file"),
    ],
)
def test_what_is_not_there_is_an_error(folder: Path, path: str, message: str) -> None:
    with pytest.raises(LangBridgeError, match=message):
        local_files(Source(path=str(folder / path)))


def test_a_folder_without_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").touch()
    with pytest.raises(LangBridgeError, match="the folder has no"):
        local_files(Source(path=str(tmp_path)))


def test_a_folder_here_goes_before_an_id_on_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "owner" / "name").mkdir(parents=True)
    (folder / "owner" / "name" / "rows.jsonl").touch()
    assert local_files(Source(path="owner/name")) == [Path("owner/name/rows.jsonl")]
    assert local_files(Source(path="other/name")) is None


def test_the_hub_is_asked_for_what_the_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("datasets.load_dataset", lambda path, **settings: asked.append((path, settings)))
    hub_dataset(Source(path="owner/name", name="main", split="test", revision="abc"), streaming=True)
    hub_dataset(Source(path="owner/name"), streaming=False)
    first, second = asked
    assert first[0] == "owner/name"
    assert first[1] == {"name": "main", "split": "test", "revision": "abc", "streaming": True, "cache_dir": None}
    assert (second[1]["split"], second[1]["streaming"]) == ("train", False)


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub (OfflineModeIsEnabled)\nand more")

    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(LangBridgeError) as caught:
        hub_dataset(Source(path="owner/name"), streaming=False)
    assert str(caught.value) == (
        "owner/name: is no file or folder here, and cannot be loaded from the hub: "
        "Couldn't reach 'owner/name' on the Hub (OfflineModeIsEnabled)"
    )


def bitext(folder: Path, prompts: str, targets: str, name: str = "tatoeba.swh-eng") -> Data:
    """Two files in the layout of Tatoeba's bitext."""
    (folder / f"{name}.swh").write_text(prompts, encoding="utf-8")
    (folder / f"{name}.eng").write_text(targets, encoding="utf-8")
    return Data(path=str(folder / f"{name}.swh"), targets=str(folder / f"{name}.eng"), input="text", output="target")


@pytest.mark.parametrize("streaming", [False, True])
def test_two_files_of_as_many_rows_are_pairs(streaming: bool, tmp_path: Path) -> None:
    data = bitext(tmp_path, "Habari?\nNina mapera mawili.\n", "How are you?\nI have two apples.\n")
    data = data.model_copy(update={"streaming": streaming})
    rows = {(row.prompt, row.target) for row in open_data(data, regime="labelled", seed=0)}
    assert rows == {("Habari?", "How are you?"), ("Nina mapera mawili.", "I have two apples.")}
    (tmp_path / "tatoeba.swh-eng.eng").write_text("Hello?\nTwo apples have I.\n")
    again = {row.target for row in open_data(data, regime="labelled", seed=0)}
    assert again == {"Hello?", "Two apples have I."}, "a change of the other file is seen"


def test_targets_may_stand_in_rows_of_their_own(tmp_path: Path) -> None:
    for language, texts in (("sw", ["Habari?", "Ndiyo."]), ("en", ["How are you?", "Yes."])):
        write_jsonl(tmp_path / f"ntrex_{language}.jsonl", [{"id": i, "text": text} for i, text in enumerate(texts)])
    data = Data(
        path=str(tmp_path / "ntrex_sw.jsonl"),
        targets=str(tmp_path / "ntrex_en.jsonl"),
        input="Translate: {text}",
        output="target",
    )
    rows = [(row.prompt, row.target) for row in open_data(data, regime="labelled", seed=0)]
    assert rows == [("Translate: Habari?", "How are you?"), ("Translate: Ndiyo.", "Yes.")]


@pytest.mark.parametrize(
    ("prompts", "targets", "message"),
    [
        ("a\nb\nc\n", "A\nB\n", r"swh: goes on at row 3, where .*eng has ended; expected two files of as many rows"),
        ("a\n", "A\nB\n", r"eng: goes on at row 2, where .*swh has ended"),
        ("a\nb\nc\n", "A\n\nC\n", r"eng, row 2: is empty, but .*swh has a text there"),
        ("a\n\nc\n", "A\nB\nC\n", r"swh, row 2: is empty, but .*eng has a text there"),
    ],
)
def test_rows_that_are_no_pairs_are_named(prompts: str, targets: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match=message):
        open_data(bitext(tmp_path, prompts, targets), regime="labelled", seed=0)


def test_a_pair_with_an_empty_side_can_be_left_out(tmp_path: Path) -> None:
    data = bitext(tmp_path, "a\nb\nc\n\n", "A\n\nC\n\n").model_copy(update={"on_bad_row": "skip"})
    table = open_data(data, regime="labelled", seed=0)
    assert [(row.prompt, row.target, row.origin.rpartition(":")[2]) for row in table] == [
        ("a", "A", "1"),
        ("c", "C", "3"),
    ]
    assert table.skipped.counts == {"no pair": 1}
