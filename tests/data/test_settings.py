"""The `data` block: what may be said, what is filled in, and that it is read without anything heavy."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from langbridge.data import Data, Source, Validation
from langbridge.data.settings import is_hub_id
from langbridge.errors import LangBridgeError


def read(text: str) -> Data:
    return Data.read(yaml.safe_load(text), "data")


def test_a_source_takes_from_its_block_what_it_does_not_say() -> None:
    data = read(
        """
        input: question
        output: answer
        sources:
          - {path: a.jsonl, weight: 3}
          - {path: owner/name, weight: 1, input: "{system_prompt}\\n\\n{question}", split: validation}
        """
    )
    first, second = data.training_sources
    assert (first.path, first.weight, first.input, first.output) == ("a.jsonl", 3.0, "question", "answer")
    assert (second.input, second.output) == ("{system_prompt}\n\n{question}", "answer")
    assert (first.split, second.split) == (None, "validation")


def test_validation_is_by_the_same_columns_or_by_its_own() -> None:
    data = read("{path: a.jsonl, input: question, validation_path: v.jsonl}")
    (kind, source), *rest = data.validation_sources("unlabelled").items()
    assert (kind, source.path, source.input, rest) == ("unlabelled", "v.jsonl", "question", [])
    data = read("{path: a.jsonl, validation: {labelled: {path: l, output: solution}, unlabelled: {path: u}}}")
    sets = data.validation_sources("labelled")
    assert list(sets) == ["labelled", "unlabelled"]
    assert (sets["labelled"].input, sets["labelled"].output) == ("query", "solution")


def test_a_plain_language_model_learns_from_texts_where_they_are_named() -> None:
    assert not Data(path="a").names_texts
    assert Data(path="a", text="content").names_texts
    assert Data(sources=(Source(path="a", text="content"),)).names_texts


MISTAKES = {
    "{}": "data.path: missing, and it has no default; expected a file, a folder or OWNER/NAME",
    "{path: a, sources: [{path: b}]}": "data.sources: stands beside path; expected one of the two",
    '{path: ""}': "data.path: expected a file, a folder or OWNER/NAME, got ''",
    "{sources: []}": "data.sources: expected a list, got [] (list)",
    "{sources: a.jsonl}": "data.sources: expected a list, got 'a.jsonl' (str)",
    "{sources: [a.jsonl]}": "data.sources[0]: expected keys and values, got 'a.jsonl' (str)",
    "{sources: [{path: a}, {pat: b}]}": "data.sources[1].pat: unknown key; did you mean data.sources[1].path?",
    "{sources: [{weight: 1}]}": "data.sources[0].path: missing, and it has no default",
    "{sources: [{path: a, weight: 0}]}": "data.sources[0].weight: expected greater than 0, got 0",
    "{sources: [{path: a, weight: 1}, {path: b}]}": "data.sources[1].weight: missing; give every source a weight, or",
    '{path: a, input: "{question"}': "data.input: '{question' is no template",
    '{sources: [{path: a, output: "{}"}]}': "data.sources[0].output: '{}': expected only names of columns in braces",
    "{path: a, shuffle_buffer: 0}": "data.shuffle_buffer: expected greater than 0, got 0",
    "{path: a, sample_by: word}": "data.sample_by: expected 'line', 'paragraph' or 'document', got 'word'",
    "{path: a, validation: {}}": "data.validation.labelled: missing, and so is unlabelled",
    "{path: a, validation: 3}": "data.validation: expected keys and values, got 3 (int)",
    "{path: a, validation_path: b, validation: {labelled: {path: c}}}": "data.validation: stands beside",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_by_its_dotted_path(text: str) -> None:
    with pytest.raises(LangBridgeError) as caught:
        read(text)
    assert str(caught.value).startswith(MISTAKES[text])


def test_every_path_is_looked_for_and_the_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    here = str(tmp_path / "a.jsonl")
    for data, key in [
        (Data(path=str(tmp_path / "no.jsonl")), "path"),
        (Data(path=here, validation_path="./no"), "validation_path"),
        (Data(sources=(Source(path=here), Source(path=str(tmp_path / "*.csv")))), "sources[1].path"),
        (Data(path=here, validation=Validation(unlabelled=Source(path="data/no.jsonl"))), "validation.unlabelled.path"),
        (
            Data(path=here, validation=Validation(labelled=Source(path=here, targets="data/no.txt"))),
            "validation.labelled.targets",
        ),
    ]:
        with pytest.raises(LangBridgeError, match="no such file") as caught:
            data.check_files()
        assert str(caught.value).startswith(f"data.{key}: ")
    for path in (here, str(tmp_path), str(tmp_path / "*.jsonl"), "owner/name"):
        Data(path=path).check_files()


def test_paths_are_moved_everywhere() -> None:
    data = Data(path="a", validation=Validation(labelled=Source(path="v", input="q"))).relocated(lambda p: f"/x/{p}")
    assert (data.path, data.validation.labelled.path, data.validation.labelled.input) == ("/x/a", "/x/v", "q")  # type: ignore[union-attr]
    assert Data(sources=(Source(path="a"),)).relocated(str.upper).training_sources[0].path == "A"


@pytest.mark.parametrize("path", ["owner/name", "meta-math/MetaMathQA", "Open-Orca/SlimOrca.v2"])
def test_ids_on_the_hub(path: str) -> None:
    assert is_hub_id(path)


@pytest.mark.parametrize("path", ["name", "./owner/name", "a/b/c", "data/train.jsonl", "data/*", "~/x", "a/b.csv.gz"])
def test_paths_are_no_ids(path: str) -> None:
    assert not is_hub_id(path)


def test_the_room_is_light() -> None:
    code = (
        "import sys; from langbridge.data import *; Data(path='a');"
        "print(*{'torch', 'transformers', 'datasets', 'numpy', 'pyarrow', 'regex'} & set(sys.modules))"
    )
    code = code.replace("import *", "import Data, open_data, LabelledCollator, UnlabelledCollator")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
