"""The study on real models, on the miniature's: a few rows of made-up problems in the layout of the real data."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl, write_atomically, write_jsonl
from langbridge.miniature import parents
from langbridge.train import Recipe, train
from langbridge.train.objectives import objective
from langbridge.train.objectives.labelled import Labelled
from studies.real import runs
from studies.real.__main__ import main
from studies.real.arms import ARMS, ENCODER, PAIRS
from studies.real.missing import accounted, carry_out_missing, spoilt
from studies.real.nearest import NearestRows, content_words, digits_of
from studies.real.reading import CARELESS, ENGLISH, Questions, Reader, careless, measure
from studies.real.report import write_report
from studies.real.runs import Run, carry_out
from studies.real.shares import NUMBERS, PRIMARY, Measurement, Shares, holm, rank_correlation
from studies.real.starts import soft_prompts, write_start

SETTINGS = ("template={prompt}", "connector.encoder_layers=[1, 3]", "ridge.texts=30", "dtype=float32",
            "train.save_steps=1", "train.per_device_train_batch_size=4")  # fmt: skip
BOUGHT = {
    "en": "Tom has {} apples. Then Tom buys {} apples. How many apples does Tom have now?",
    "sw": "Tom ana matufaa {}. Kisha Tom ananunua matufaa {}. Tom ana matufaa mangapi sasa?",
    "te": "Tom దగ్గర {} ఆపిల్స్ ఉన్నాయి. Tom {} ఆపిల్స్ కొన్నారు.",
    "bn": "টমের {}টি আপেল আছে। টম {}টি আপেল কিনল।",
    "th": "ทอมมีแอปเปิ้ล {} ลูก ทอมซื้อแอปเปิ้ล {} ลูก",
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of models and of data."""
    root = tmp_path_factory.mktemp("real")
    models, data = root / "models", root / "data"
    models.mkdir()
    (models / ENCODER).symlink_to(parents.ENCODER)
    (models / PAIRS["smollm2"].language_model).symlink_to(parents.LANGUAGE_MODEL)

    def solved(first: int, second: int) -> dict[str, str]:
        answer = f"{first}+{second}=<<{first}+{second}={first + second}>>{first + second}\n#### {first + second}"
        return {"question": BOUGHT["en"].format(first, second), "answer": answer}

    write_jsonl(data / "gsm8k" / "train.jsonl", [solved(2 + row % 7, 3 + row) for row in range(40)])
    tests = [(3, 4), (11, 5), (6, 20)]
    write_jsonl(data / "gsm8k" / "test.jsonl", [solved(*numbers) for numbers in tests])
    for code, text in BOUGHT.items():
        rows = [{"id": row, "question": text.format(*numbers)} for row, numbers in enumerate(tests)]
        write_jsonl(data / "mgsm" / f"mgsm_{code}.jsonl", rows)
    return models, data


@pytest.fixture
def run_of(folders: tuple[Path, Path], tmp_path: Path) -> Callable[..., Run]:
    def make(arm: str, examples: int = 8, **given: Any) -> Run:
        return Run(tmp_path / "study", *folders, "smollm2", arm, examples=examples, **{"settings": SETTINGS, **given})

    return make


@pytest.fixture
def questions(folders: tuple[Path, Path]) -> Questions:
    return Questions(folders[1], 3)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained and measured, in order."""
    seen: list[str] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            seen.append(name if name != "measure" else given[-1])
            return real(*given, **named)

        return call

    for name in ("train", "measure", "write_start"):
        monkeypatch.setattr(runs, name, watched(name, getattr(runs, name)))
    return seen


def quietly(run: Run, questions: Questions, languages: tuple[str, ...] = ("sw",), **given: Any) -> None:
    carry_out(run, questions, languages, note=lambda _: None, **given)


def test_nothing_is_done_twice_and_more_examples_go_on(
    run_of: Callable[..., Run], questions: Questions, done: list[str]
) -> None:
    quietly(run_of("labelled"), questions)
    assert done == ["train", ENGLISH, CARELESS, "sw"]
    quietly(run_of("labelled"), questions)
    assert len(done) == 4
    quietly(run_of("labelled"), questions, ("te",), checkpoints=True)
    assert done[4:] == [ENGLISH, CARELESS, "te", "te"], "the first checkpoint whole, of the last what is missing"
    del done[:]
    run = run_of("labelled", examples=12)
    quietly(run, questions)
    assert done == ["train", ENGLISH, CARELESS, "sw"]
    history = json.loads((run.folder / "training" / "checkpoint-3" / "trainer_state.json").read_text())
    assert history["global_step"] == 3
    seconds = json.loads((run.folder / "clock.json").read_text())["seconds"]
    assert list(seconds) == ["4", "8", "12"]
    assert 0 < seconds["4"] <= seconds["8"] <= seconds["12"], "a fast machine makes two checkpoints in one tick"
    with pytest.raises(LangBridgeError, match=r"seed-0: holds a run with other settings \(ridge.texts: 30 in"):
        quietly(run_of("labelled", settings=(*SETTINGS, "ridge.texts=20")), questions)


def test_an_arm_is_tuned_by_settings(run_of: Callable[..., Run]) -> None:
    assert run_of("random").recipe.train.learning_rate == 6e-4
    assert run_of("random", settings=(*SETTINGS, "train.learning_rate=2.0e-3")).recipe.train.learning_rate == 2e-3


def test_a_mean_is_made_of_its_seeds_start_and_training(
    run_of: Callable[..., Run], questions: Questions, done: list[str]
) -> None:
    run = run_of("mean25", seed=1)
    quietly(run, questions)
    assert done == ["train", "train", ENGLISH, CARELESS, "sw"]
    quietly(run_of("labelled", seed=1), questions, ())
    assert done[5:] == [ENGLISH, CARELESS], "what it is made of is there, and only not measured"
    folders = [run_of("closed", seed=1).folder / "training/final", run_of("labelled", seed=1).folder / "training/final"]
    start, trained, mean = (load_file(folder / "model.safetensors") for folder in [*folders, run.folder / "averaged/8"])
    for name, weight in mean.items():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * trained[name])
    clocks = [json.loads((one.folder / "clock.json").read_text())["seconds"]
              for one in (run, run_of("closed", seed=1), run_of("labelled", seed=1))]  # fmt: skip
    assert clocks[0]["8"] == clocks[1]["0"] + clocks[2]["8"]
    quietly(run_of("mean25", seed=1, examples=12), questions)
    assert json.loads((run.folder / "clock.json").read_text())["seconds"].keys() == {"8", "12"}


def test_a_bridge_is_asked_in_a_template_that_it_was_not_trained_in(
    run_of: Callable[..., Run], questions: Questions, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "<soft>{prompt}</soft>{prompt}"
    monkeypatch.setitem(ARMS, "mean_beside", replace(ARMS["mean_beside"], asked_in=asked))  # these bases do not chat
    run = run_of("mean_beside")
    quietly(run, questions)
    quietly(run_of("mean"), questions)
    assert done == ["train", "train", ENGLISH, CARELESS, "sw", ENGLISH, CARELESS, "sw"], "its bridge is the mean's"
    own, other = (json.loads(one.measured(3, 8, "sw").read_text()) for one in (run, run_of("mean")))
    assert own["tokens"] == other["tokens"]
    assert own["own"] != other["own"]
    with pytest.raises(LangBridgeError, match="holds a run with other settings"):
        quietly(run_of("mean_beside", settings=(*SETTINGS, "ridge.texts=20")), questions)


def test_a_solution_is_whole_behind_a_question_that_training_would_leave_no_room_for(
    run_of: Callable[..., Run], questions: Questions
) -> None:
    """As of Telugu that the language model reads as text, too, in bytes."""
    twice = run_of("closed", settings=(*SETTINGS, "template=<soft>{prompt}</soft>{prompt}",
                                       "max_encoder_length=70", "max_length=90"))  # fmt: skip
    (folder,) = runs._trained(twice, False, lambda _: None).values()
    found = measure(Reader.of_bridge(folder, twice.recipe), questions, "te")
    tokenizer = LangBridgeProcessor.from_pretrained(folder).tokenizer
    whole = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in questions.solutions]
    assert found["tokens"] == whole


def test_an_interrupted_measurement_goes_on(
    run_of: Callable[..., Run], questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("closed")

    def killed(reader: Reader, questions: Questions, language: str) -> dict[str, Any]:
        if language == "sw":
            raise KeyboardInterrupt
        return measure(reader, questions, language)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "measure", killed)
        with pytest.raises(KeyboardInterrupt):
            quietly(run, questions)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.json")}
    assert not run.measured(3, 0, "sw").exists()
    quietly(run, questions)
    assert run.measured(3, 0, "sw").is_file()
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_a_killed_training_goes_on_and_its_seconds_count(
    run_of: Callable[..., Run], questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("labelled")

    def killed(recipe: Recipe, out: Path, *, resume: bool) -> Path:
        train(recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_steps": 1})}), out, resume=resume)
        shutil.rmtree(out / "final")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            quietly(run, questions)
    first = (run.folder / "training" / "checkpoint-1" / "model.safetensors").stat().st_mtime_ns
    quietly(run, questions, ())
    assert (run.folder / "training" / "checkpoint-1" / "model.safetensors").stat().st_mtime_ns == first
    seconds = json.loads((run.folder / "clock.json").read_text())["seconds"]
    assert 0 < seconds["4"] <= seconds["8"]


def test_every_arm_of_the_product_is_a_recipe(run_of: Callable[..., Run]) -> None:
    recipes = {arm: run_of(arm).recipe for arm in ARMS if not arm.startswith("distil")}
    assert recipes["closed"].train.max_steps == 0
    assert recipes["labelled"].train.max_steps == 2
    assert run_of("last", settings=()).recipe.connector.encoder_layers is None
    assert (recipes["mlp"].connector.kind, recipes["mlp"].connector.encoder_layers) == ("mlp", (1, 3))
    with pytest.raises(LangBridgeError, match="--examples: got 10, expected a multiple of 4"):
        _ = run_of("labelled", examples=10).recipe


def test_a_measurement_is_the_products_own_loss(run_of: Callable[..., Run], questions: Questions) -> None:
    run = run_of("closed")
    quietly(run, questions)
    found = json.loads(run.measured(3, 0, "sw").read_text())
    model = LangBridgeModel.from_pretrained(run.folder / "training" / "final", dtype=torch.float32)
    processor = LangBridgeProcessor.from_pretrained(run.folder / "training" / "final")
    prompts, targets = questions["sw"], questions.solutions
    for row, target in enumerate(targets):
        for key, prompt in (("own", prompts[row]), ("other", prompts[(row + 1) % 3])):
            batch = processor(prompt, targets=target)
            loss = float(model(**batch).loss.detach()) * found["tokens"][row]
            assert found[key][row] == pytest.approx(loss, rel=1e-4)  # the same in a batch of other lengths
        ids = batch["labels"][batch["labels"] != -100].tolist()
        assert found["tokens"][row] == len(ids)
        numbers = [any(char.isdigit() for char in processor.tokenizer.decode([i])) for i in ids]
        assert found["number_tokens"][row] == sum(numbers)
    assert "<<3+4=7>>7" in targets[0], "with the calculator's marks, as in the training"


def test_the_language_model_alone_reads_the_question_as_text(run_of: Callable[..., Run], questions: Questions) -> None:
    run = run_of("text")
    quietly(run, questions)
    found = json.loads(run.measured(3, 0, ENGLISH).read_text())
    reader = Reader.of_language_model(run.recipe)
    (alone,) = reader.sums([questions[ENGLISH][1]], [questions.solutions[1]])
    assert found["own"][1] == pytest.approx(alone["loss"], rel=1e-4)
    assert "digits" not in found


def test_starts_have_their_scale_and_no_more(run_of: Callable[..., Run], tmp_path: Path) -> None:
    """The permuted start keeps mean and distances of the closed form's soft prompts; the random one has the norms of
    embeddings."""
    run = run_of("permuted")
    quietly(run_of("closed"), Questions(run.data, 3), ())
    texts = [row["question"] for _, row in read_jsonl(run.data / "gsm8k" / "train.jsonl")]

    def given(folder: Path) -> torch.Tensor:
        model = LangBridgeModel.from_pretrained(folder, dtype=torch.float32)
        return soft_prompts(model, LangBridgeProcessor.from_pretrained(folder), texts).double()

    closed = given(run_of("closed").folder / "training" / "final")
    permuted = given(write_start("permuted", run.recipe, tmp_path / "permuted"))
    assert torch.allclose(closed.mean(0), permuted.mean(0), atol=1e-5)
    assert torch.allclose((closed - closed[0]).norm(dim=1), (permuted - permuted[0]).norm(dim=1), atol=1e-4)
    assert (closed - permuted).norm(dim=1).median() > 0.5 * closed.norm(dim=1).median()
    random = given(write_start("random", run.recipe, tmp_path / "random")).norm(dim=1).median()
    model = LangBridgeModel.from_pretrained(tmp_path / "random", dtype=torch.float32)
    processor = LangBridgeProcessor.from_pretrained(tmp_path / "random")
    ids = processor.tokenizer(" ".join(texts), add_special_tokens=False, return_tensors="pt")["input_ids"]
    embedded = model.get_input_embeddings()(ids).float().norm(dim=-1).median()
    assert float(random) == pytest.approx(float(embedded), rel=1e-4)  # sums in float32


def test_runs_begin_with_their_start(run_of: Callable[..., Run], questions: Questions, done: list[str]) -> None:
    quietly(run_of("permuted", examples=4), questions, ())
    quietly(run_of("permuted", examples=8), questions, ())
    assert done == ["write_start", "train", ENGLISH, CARELESS, "train", ENGLISH, CARELESS]


@pytest.mark.parametrize("arm", ["noise", "layer_dropout", "careless"])
def test_a_disturbed_training_is_another_one_from_the_same_start(
    arm: str, run_of: Callable[..., Run], questions: Questions, done: list[str]
) -> None:
    for one in ("labelled", arm):
        quietly(run_of(one), questions, ())
    plain, disturbed = (run_of(one).folder / "training" for one in ("labelled", arm))
    starts = [json.loads((folder / "checkpoint-1" / "run.json").read_text())["start"] for folder in (plain, disturbed)]
    assert starts[0] == starts[1], "the closed form is of clean text"
    found = [load_file(folder / "final" / "model.safetensors") for folder in (plain, disturbed)]
    assert found[0].keys() == found[1].keys()
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert objective("labelled") is Labelled, "nothing stands in any more"


def test_norms_and_biases_of_the_encoder_alone_are_trained(
    run_of: Callable[..., Run], questions: Questions, done: list[str]
) -> None:
    for arm in ("closed", "norms"):
        quietly(run_of(arm), questions, ())
    folders = [run_of(arm).folder / "training" / "final" for arm in ("closed", "norms")]
    before, after = (LangBridgeModel.from_pretrained(one, dtype=torch.float32).encoder.state_dict() for one in folders)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all("norm" in name or name.endswith("bias") for name in moved), moved


def made(own: list[float], other: list[float], tokens: list[int], scale: float = 1.0) -> Measurement:
    found = {"own": own, "other": other, "tokens": tokens}
    numbers = {f"number_{key}": [value * scale for value in values] for key, values in found.items() if key != "tokens"}
    return Measurement({**found, **numbers, "number_tokens": tokens})


def test_shares_of_numbers_made_by_hand() -> None:
    """English gains 30 nats over 30 tokens, the four others 15, 30, 0 and 3: shares .5, 1, 0 and .1, mean .4. Of number
    tokens the others gain half as much."""
    english = made([10, 20], [20, 40], [10, 20])
    gains = {"sw": [5, 10], "te": [10, 20], "bn": [0, 0], "th": [1, 2]}
    others = {
        code: Measurement({**made([10, 20], [10 + a, 20 + b], [10, 20]).found,
                           "number_own": [0, 0], "number_other": [a / 2, b / 2]})
        for code, (a, b) in gains.items()
    }  # fmt: skip
    shares = Shares([{ENGLISH: english, **others}])
    found = shares.share()
    assert found is not None
    # In every language a question's gain is the same part of English's, so no resample differs.
    assert (found.value, *found.interval) == pytest.approx((0.4, 0.4, 0.4))
    assert shares.gain(["sw"]).value == pytest.approx(0.5)
    assert shares.gain().value == pytest.approx((0.5 + 1 + 0 + 0.1) / 4)
    numbers = Shares([{ENGLISH: english, **others}], NUMBERS).share()
    assert numbers is not None
    assert numbers.value == pytest.approx(0.2)


def test_intervals_are_over_questions_and_seeds() -> None:
    def seed(gain: float) -> dict[str, Measurement]:
        return {code: made([0.0] * 4, [gain] * 4, [1] * 4) for code in PRIMARY} | {
            ENGLISH: made([0.0] * 4, [1.0] * 4, [1] * 4)
        }

    one, two = Shares([seed(0.2)]).share(), Shares([seed(0.2), seed(0.6)]).share()
    assert one is not None
    assert two is not None
    assert one.interval == pytest.approx((0.2, 0.2))
    assert (two.value, *two.interval) == pytest.approx((0.4, 0.2, 0.6))


def test_arms_are_held_against_each_other_question_by_question() -> None:
    """Shares that differ from question to question, of which one arm has .1 more at every one: a difference without an
    interval."""
    english = made([0.0] * 4, [1.0] * 4, [1] * 4)

    def arm(more: float) -> Shares:
        other = made([0.0] * 4, [0.1 + more, 0.3 + more, 0.5 + more, 0.9 + more], [1] * 4)
        return Shares([{ENGLISH: english, **dict.fromkeys(PRIMARY, other)}])

    less, more = arm(0.0).share(), arm(0.1).share()
    assert less is not None
    assert more is not None
    assert less.interval[1] - less.interval[0] > 0.2
    difference = more.minus(less)
    assert (difference.value, *difference.interval) == pytest.approx((0.1, 0.1, 0.1))
    assert difference.p == pytest.approx(2 / 2001), "no resample of 2,000 on the other side"
    assert less.minus(less).p == 1.0


def test_holms_correction_counts_comparisons_that_are_still_to_come() -> None:
    assert holm({"a": 0.02, "b": 0.001, "c": 0.015}, 5) == pytest.approx({"b": 0.005, "c": 0.06, "a": 0.06})
    assert rank_correlation([1.0, 2.0, 3.0, 9.0], [0.1, 0.3, 0.2, 0.4]) == pytest.approx(0.8)


def test_no_share_of_english_that_is_not_read() -> None:
    unread = made([1.0, 2.0, 1.0, 2.0], [2.0, 1.0, 2.0, 1.0], [4] * 4)
    assert Shares([dict.fromkeys([ENGLISH, *PRIMARY], unread)]).share() is None


def test_careless_typing_is_seeded_and_spares_digits() -> None:
    text = "Janet sells 16 eggs and bakes 48 muffins for her friends every morning at home. " * 4
    typed = careless(text, 1)
    assert typed == careless(text, 1) != careless(text, 2)
    assert digits_of(typed) == digits_of(text) == "1648" * 4
    assert 0.8 * len(text) < len(typed) < len(text)


def test_the_nearest_rows_of_a_bridge_that_says_the_embeddings_themselves(
    run_of: Callable[..., Run], questions: Questions
) -> None:
    """With the language model's own embedding of every token's text for soft prompts all digits are found; with the
    embeddings of another text none."""
    run = run_of("closed")
    quietly(run, questions, ())
    folder = run.folder / "training" / "final"
    model, processor = LangBridgeModel.from_pretrained(folder), LangBridgeProcessor.from_pretrained(folder)
    rows = NearestRows(model, processor)
    embed = model.get_input_embeddings()

    def says(word: str | None) -> Callable[..., Any]:
        def soft(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pieces = processor.encoder_tokenizer.convert_ids_to_tokens(ids[0].tolist())
            texts = [word or piece.strip("▁") or "." for piece in pieces]
            found = [processor.tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in texts]
            vectors = embed(torch.tensor([*found, 0]))[None]
            return vectors, torch.ones(vectors.shape[:2], dtype=torch.long)

        return soft

    model.soft_prompts = says(None)  # type: ignore[method-assign]
    found = rows.counts(["3 apples and 4 more"], ["How many apples"])
    assert found["digits"] == [2, 2]
    assert found["words"] == [1, 1], "`how` and `many` are no content"
    model.soft_prompts = says("buys")  # type: ignore[method-assign]
    assert rows.counts(["3 apples and 4 more"], ["How many apples"])["digits"] == [0, 2]


def test_digits_of_any_script_and_content_words() -> None:
    assert digits_of("▁16") == digits_of("১৬") == "16"
    assert content_words("How many Ducks' eggs does she eat at the farmers' market?") == {"ducks", "eggs", "farmers",
                                                                                        "market"}  # fmt: skip


def test_missing_folders_are_named(
    folders: tuple[Path, Path], run_of: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, data = folders
    given = ["--out", str(tmp_path / "out"), "--pair", "smollm2", "--arm", "closed", "--threads",
             str(torch.get_num_threads())]  # fmt: skip
    for where, error in (
        (["--models", str(models), "--data", str(tmp_path / "no")], "no: no such folder; expected one with gsm8k/ and"),
        (["--models", str(tmp_path), "--data", str(data)], f"has no model in {ENCODER}/; expected"),
        (["--models", str(models), "--data", str(data), "--languages", "xx"], "mgsm_xx.jsonl: no such file"),
        (["--models", str(models), "--data", str(data), "--questions", "9"], "has 3 rows, expected at least 9"),
    ):
        with pytest.raises(SystemExit):
            main(["run", *where, *(["--questions", "3"] if "--questions" not in where else []), *given])
        assert error in capsys.readouterr().err
    assert not (tmp_path / "out" / "smollm2" / "closed" / "seed-0" / "training").exists()


def test_the_report_of_a_half_finished_study_says_what_is_missing(
    run_of: Callable[..., Run], questions: Questions, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_of("closed").out
    with pytest.raises(LangBridgeError, match="holds no measurement"):
        write_report(out)
    quietly(run_of("closed"), questions, PRIMARY)
    quietly(run_of("labelled"), questions, PRIMARY, checkpoints=True)
    quietly(run_of("text"), questions, ("sw",))
    main(["report", "--out", str(out)])
    assert capsys.readouterr().out.strip() == str(out / "report.md")
    said = (out / "report.md").read_text()
    assert "- text, seed-0, 0 examples: not measured in te, bn, th" in said
    assert f"- distil: not there ({ARMS['distil'].says})" in said
    assert "- labelled:" not in said
    text = [line for line in said.splitlines() if line.startswith("| text |")]
    assert text[0].endswith(" | – | – | – |"), "what is measured of it has its place"
    (row,) = [line for line in said.splitlines() if line.startswith("| labelled | 1 | 8 |")]
    assert row.count("|") == 9
    (held,) = [line for line in said.splitlines() if line.startswith("| closed | 0 / 8 |")]
    assert held.count("|") == 6
    assert "### When to stop, asked in English" in said
    assert (out / "share.png").stat().st_size > 0


def test_candidates_are_judged_by_the_checkpoint_that_they_choose(tmp_path: Path) -> None:
    """Shares .2 (the closed form), .6 and .4 over three checkpoints. English gains rise throughout, so the English
    score chooses the last one and loses .2; on careless English and number tokens the second is the best."""
    made_up = {0: (1.0, 0.2, 0.5, 2.0), 128: (2.0, 0.6, 0.9, 1.0), 256: (3.0, 0.4, 0.7, 1.5)}
    for examples, (english, share, careless_gain, number_loss) in made_up.items():
        arm = "closed" if examples == 0 else "labelled"
        gains = {ENGLISH: english, CARELESS: careless_gain, **dict.fromkeys(PRIMARY, share * english)}
        for code, gain in gains.items():
            one = made([1.0] * 4, [1.0 + gain] * 4, [1] * 4).found
            path = tmp_path / "qwen" / arm / "seed-0" / "measured" / "4" / str(examples) / f"{code}.json"
            write_atomically(path, json.dumps({**one, "number_own": [number_loss] * 4}))
    said = write_report(tmp_path).read_text().splitlines()
    assert "| labelled | seed-0 | English reading score | 256 | 128 | 0.200 | 0.50 |" in said
    assert "| labelled | seed-0 | English loss on number tokens | 128 | 128 | 0.000 | 1.00 |" in said
    assert "| labelled | seed-0 | reading score of careless English | 128 | 128 | 0.000 | 1.00 |" in said
    assert "| closed | 0 / 256 | -1.00 [-1.00, -1.00] | 0.0010 | 0.0050 |" in said
    assert "| labelled | 1 | 256 | – | 0.40 [0.40, 0.40] |" in "\n".join(said)


def test_words_that_do_not_arrive_are_taken_out_of_english(
    run_of: Callable[..., Run], questions: Questions, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    class Rows:
        """Hears `many` languages as apples, and knows three words."""

        words = frozenset({"apples", "buys", "tomorrow"})

        def near(self, question: str) -> list[tuple[str, list[str]]]:
            return [("▁x", ["Apples"])]

    made = spoilt(Rows(), questions, "sw")  # type: ignore[arg-type]
    assert made["en-without-sw"][0] == "Tom has 3 apples. Then Tom 4 apples. How many apples does Tom have now?"
    assert made["en-instead-sw"][0] == "Tom has 3 apples. Then Tom apples 4 apples. How many apples does Tom have now?"
    run = run_of("closed")
    told = [carry_out_missing(run, questions, ("sw", "te"), note=lambda line: None) for _ in range(2)]
    assert told[0] == told[1], "nothing is measured twice"
    rows = {line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ") for line in told[0].splitlines()}
    assert [*rows] == ["words of", "---", "sw", "te", "mean"]
    without = Measurement.read(run.measured(questions.count, 0, "en-without-te")).gain()
    assert rows["te"][2].startswith(f"{without:.2f} [")


def test_what_words_account_for_is_the_part_of_the_distance_that_goes_with_them() -> None:
    def gains(gain: float) -> Measurement:
        return Measurement({"own": [1.0, 2.0], "other": [1.0 + 10 * gain, 2.0 + 10 * gain], "tokens": [10, 10]})

    measured = {"en": gains(0.6), "sw": gains(0.2), "en-without-sw": gains(0.5), "en-instead-sw": gains(0.3)}
    assert accounted(measured, ["sw"]).splitlines()[-1].endswith("0.25 [0.25, 0.25] | 0.75 [0.75, 0.75] |")
