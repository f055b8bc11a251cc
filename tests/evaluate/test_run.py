"""An evaluation through the ordinary path: samples, scores, going on after an interruption, refusals."""

import json
from pathlib import Path

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate import run as run_module
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.runs import Run, Sample
from langbridge.evaluate.suites import SuiteTask, load_suites
from langbridge.serve.load import load_engine
from langbridge.serve.replay import ReplayEngine

QUESTIONS = {"sw": ["moja", "mbili", "tatu"], "en": ["one", "two", "three"]}


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    """A family of one's own: four lines and a file a language."""
    for language, questions in QUESTIONS.items():
        rows = [{"q": text, "a": index + 1} for index, text in enumerate(questions)]
        (tmp_path / f"farm_{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "farm.yaml"
    path.write_text(FARM)
    return path


FARM = "suite: farm\nfiles: farm_*.jsonl\nquestion: q\nanswer: a\n"


def right(request) -> str:
    return f"The answer is {QUESTIONS[request.language].index(request.prompt) + 1}."


def test_samples_and_scores(farm: Path, tmp_path: Path) -> None:
    def says(request) -> str:
        return {"mbili": "The answer is 7.", "tatu": "Sijui."}.get(request.prompt, right(request))

    run = evaluate(ReplayEngine(says), load_suites([str(farm)]), tmp_path / "run", about={"name": "x"})
    assert run == Run.read(tmp_path / "run")
    samples = run.samples("farm", "sw")
    assert [(one.id, one.prompt, one.expected, one.output, one.extracted, one.correct) for one in samples] == [
        ("0", "moja", "1", "The answer is 1.", "1", 1),
        ("1", "mbili", "2", "The answer is 7.", "7", 0),
        ("2", "tatu", "3", "Sijui.", None, 0),
    ]
    assert [one.id for one in run.samples("farm", "en")] == ["0", "1", "2"], "the same id in every language"
    figures = run.results["tasks"]["farm"]["languages"]
    assert figures["sw"]["accuracy"] == pytest.approx(1 / 3)
    assert figures["sw"]["stderr"] == pytest.approx((1 / 3 * 2 / 3 / 2) ** 0.5)
    assert (figures["sw"]["n"], figures["sw"]["unanswered"], figures["sw"]["unscored"]) == (3, 1, 0)
    assert figures["sw"]["accuracy_reference"]["accuracy"] == pytest.approx(1 / 3)
    assert figures["en"]["accuracy"] == 1.0
    harness = run.results["harness"]["results"]["own_farm_sw"]
    assert harness["accuracy,none"] == figures["sw"]["accuracy"], "the harness and we agree"
    assert run.results["model"] == {"name": "x", "kind": "replay", "model": "replay"}
    assert len(figures["sw"]["data"]["farm"]["sha256"]) == 64


def test_a_chat_model_is_not_stopped_at_the_beginning_of_a_line(farm: Path, tmp_path: Path) -> None:
    tasks = load_suites([str(farm)], generation={"until": ["\ndef", "Question:", "</s>"]})
    for chats, stops in ((True, ["Question:", "</s>"]), (False, ["\ndef", "Question:", "</s>"])):
        engine = ReplayEngine(right, chats=chats)
        run = evaluate(engine, tasks, tmp_path / f"run-{chats}")
        assert {tuple(decoding.stop) for _, decoding in engine.asked} == {tuple(stops)}
        assert run.results["tasks"]["farm"]["generation"]["until"] == stops, "what was used is written down"


def test_an_interrupted_run_asks_only_what_is_left(farm: Path, tmp_path: Path) -> None:
    def breaks(request) -> str:
        if request.prompt == "three":
            raise KeyboardInterrupt
        return right(request)

    first = ReplayEngine(breaks)
    with pytest.raises(KeyboardInterrupt):
        evaluate(first, load_suites([str(farm)]), tmp_path / "run")
    done = {request.prompt for request, _ in first.asked} - {"three"}
    assert done, "some were answered"
    with pytest.raises(LangBridgeError, match="is not finished"):
        Run.read(tmp_path / "run")
    file = next((tmp_path / "run").glob("responses_*.jsonl"))
    file.write_text(file.read_text() + '{"key": "ab')  # the crash came while a line was written

    second = ReplayEngine(right)
    run = evaluate(second, load_suites([str(farm)]), tmp_path / "run")
    asked = [request.prompt for request, _ in second.asked]
    assert set(asked) == {text for texts in QUESTIONS.values() for text in texts} - done
    assert [one.correct for one in run.samples("farm")] == [1] * 6
    third = ReplayEngine(right)
    assert evaluate(third, load_suites([str(farm)]), tmp_path / "run").results["tasks"] == run.results["tasks"]
    assert third.asked == []


def test_other_settings_models_and_data_do_not_mix(farm: Path, tmp_path: Path) -> None:
    evaluate(ReplayEngine(right), load_suites([str(farm)]), tmp_path / "run")
    before = (tmp_path / "run" / "results.json").read_bytes()
    with pytest.raises(LangBridgeError, match=r"limit was None and is 2"):
        evaluate(ReplayEngine(right), load_suites([str(farm)]), tmp_path / "run", limit=2)
    with pytest.raises(LangBridgeError, match=r"model\.model was 'replay' and is 'other'"):
        evaluate(ReplayEngine(right, name="other"), load_suites([str(farm)]), tmp_path / "run")
    with pytest.raises(LangBridgeError, match=r"farm/en\.generation\.max_gen_toks was 256 and is 9"):
        evaluate(ReplayEngine(right), load_suites([str(farm)], generation={"max_gen_toks": 9}), tmp_path / "run")
    data = farm.parent / "farm_en.jsonl"
    data.write_text(data.read_text().replace("one", "two"))
    with pytest.raises(LangBridgeError, match=r"farm/en\.data\.sha256 was"):
        evaluate(ReplayEngine(right), load_suites([str(farm)]), tmp_path / "run")
    assert (tmp_path / "run" / "results.json").read_bytes() == before


def test_what_a_grader_cannot_score_is_left_to_a_scorer(farm: Path, tmp_path: Path, monkeypatch) -> None:
    def score(samples: list[Sample], *, unsafe_code: bool) -> list[Sample]:
        assert unsafe_code
        marks = [None, 1, 0, 1, 1, 1]
        return [Sample(**{**vars(one), "correct": mark}) for one, mark in zip(samples, marks, strict=True)]

    tasks = [SuiteTask(one.suite, one.language, one.part, one.task, "here:score") for one in load_suites([str(farm)])]
    monkeypatch.setattr(run_module.pkgutil, "resolve_name", lambda name: score)
    run = evaluate(ReplayEngine(right), tasks, tmp_path / "run", unsafe_code=True)
    english = run.results["tasks"]["farm"]["languages"]["en"]
    assert (english["n"], english["unscored"], english["accuracy"]) == (2, 1, 0.5)


def test_a_question_that_is_sampled_twice_is_one_question(farm: Path, tmp_path: Path) -> None:
    drawn = iter(["The answer is 1.", "The answer is 9."] * 6)
    tasks = load_suites([str(farm)], languages=["en"], generation={"do_sample": True})
    tasks[0].task.set_config("repeats", 2)
    engine = ReplayEngine(lambda request: next(drawn))
    run = evaluate(engine, tasks, tmp_path / "run", limit=1)
    assert len(engine.asked) == 2
    assert sorted(one.output for one in run.samples("farm")) == ["The answer is 1.", "The answer is 9."]
    figures = run.results["tasks"]["farm"]["languages"]["en"]
    assert (figures["n"], figures["accuracy"]) == (1, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: farm\n", "farm.yaml: files: missing"),
        ("suite: farm\nfiles: f.jsonl\nquestion: q\nanswer: a\n", "files: expected a name in the YAML's folder with"),
        ("suite: farm\nfiles: none_*.jsonl\nquestion: q\nanswer: a\n", "matches no file"),
        ("suite: farm\nfiles: farm_*.jsonl\nquestion: z\nanswer: a\n", "farm_en.jsonl, row 1: no field 'z'"),
        ("suite: farm\nfiles: farm_*.jsonl\nquestion: q\nanswer: q\n", "row 1: expected a number as the answer"),
        ("suite: farm\nfiles: farm_*.jsonl\nquestion: q\nanswer: a\nkind: poem\n", "got 'poem'"),
        ("suite: farm\nfiles: farm_*.jsonl\nquestion: q\nanswer: a\ncolour: red\n", "colour: unknown key"),
        ("suite: ../x\nfiles: farm_*.jsonl\nquestion: q\nanswer: a\n", "expected letters, digits"),
        (f"{FARM}stop: 5\n", "farm.yaml: stop: expected a list, got 5"),
        (f"{FARM}stop: [Q, 5]\n", "expected text, got 5"),
        (f"{FARM}max_new_tokens: many\n", "farm.yaml: max_new_tokens: expected a whole number, got 'many'"),
        (f"{FARM}max_new_tokens: 0\n", "max_new_tokens: expected greater than 0, got 0"),
        (
            "suite: farm\nfiles: /farm_*.jsonl\nquestion: q\nanswer: a\n",
            "files: expected a name in the YAML's folder.*got '/farm_",
        ),
        (
            "suite: farm\nfiles: far*.jsonl\nquestion: q\nanswer: a\n",
            "farm_en.jsonl: expected a language in the place of .*'m_en'",
        ),
    ],
)
def test_a_family_that_is_described_wrongly(farm: Path, text: str, message: str) -> None:
    farm.write_text(text)
    with pytest.raises(LangBridgeError, match=message):
        load_suites([str(farm)])


def test_where_a_family_of_ones_own_stops(farm: Path) -> None:
    for stop, expected in (('"Q:"', ["Q:"]), ("['Q:', '\\n\\n']", ["Q:", "\\n\\n"])):
        farm.write_text(f"{FARM}stop: {stop}\n")
        for one in load_suites([str(farm)]):
            assert one.task.config.generation_kwargs["until"] == expected


def test_two_families_of_one_name_are_not_mixed(farm: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(FARM)
    with pytest.raises(LangBridgeError, match=r"--suite: .*other\.yaml is called 'farm', and so is .*farm\.yaml"):
        load_suites([str(farm), str(other)])


def test_an_id_names_one_question(farm: Path, tmp_path: Path) -> None:
    rows = [{"q": "one", "a": 1, "id": 0}, {"q": "two", "a": 2, "id": 1}, {"q": "three", "a": 3, "id": "0"}]
    (tmp_path / "farm_sw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(LangBridgeError, match=r"farm_sw\.jsonl, row 3: the id '0' is that of .*farm_sw\.jsonl, row 1"):
        load_suites([str(farm)])


def test_a_language_that_no_suite_has_is_named(farm: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"--languages: farm has en, sw; got xx"):
        load_suites([str(farm)], languages=["en", "xx"])


def test_answers_that_are_words_or_letters(farm: Path, tmp_path: Path) -> None:
    rows = {"words": ["red", "blue"], "letters": ["(A)", "b"]}
    for name, answers in rows.items():
        lines = [json.dumps({"q": f"{name} {index}", "a": answer}) for index, answer in enumerate(answers)]
        (tmp_path / f"{name}_en.jsonl").write_text("\n".join(lines))
        kind = "exact" if name == "words" else "choice"
        (tmp_path / f"{name}.yaml").write_text(
            f"suite: {name}\nfiles: {name}_*.jsonl\nquestion: q\nanswer: a\nkind: {kind}\n"
        )
    says = {"words 0": "Blue? No, red.", "words 1": "I say green", "letters 0": "It is (A).", "letters 1": "(C)"}
    suites = load_suites([str(tmp_path / f"{name}.yaml") for name in rows])
    run = evaluate(ReplayEngine(lambda request: says[request.prompt]), suites, tmp_path / "run")
    assert [(one.extracted, one.correct) for one in run.samples("words")] == [("red", 1), (None, 0)]
    assert [(one.extracted, one.correct) for one in run.samples("letters")] == [("A", 1), ("C", 0)]


def test_every_kind_of_model_by_the_same_call(
    farm: Path, bridge_folder: Path, base_folders: tuple[Path, Path], seq2seq: Path, tmp_path: Path
) -> None:
    tasks = load_suites([str(farm)], generation={"max_gen_toks": 5})
    for folder, kind in ((bridge_folder, "bridge"), (base_folders[1], "causal"), (seq2seq, "seq2seq")):
        run = evaluate(load_engine(folder, batch_size=2), tasks, tmp_path / kind, limit=2)
        assert run.results["model"]["kind"] == kind
        assert run.results["model"]["name"] == str(folder)
        assert [one.id for one in run.samples("farm")] == ["0", "1", "0", "1"]
        assert all(len(one.output) <= 5 for one in run.samples("farm"))
    plain = [one.prompt for one in run.samples("farm")]
    assert plain == ["one", "two", "moja", "mbili"], "no template where none is asked for"
