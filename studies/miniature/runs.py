"""One run of a study: a model out of the ordinary training, questions through the ordinary evaluation, and, where it is
asked for, the ordinary analysis of the encoder's states.

    DIR/runs/NAME/start            the bridge that a run begins with, where that is not the recipe's affair
    DIR/runs/NAME/training/final   what `langbridge train` writes
    DIR/runs/NAME/answers/ASKED    what `langbridge evaluate` writes
    DIR/runs/NAME/reading.json     reading scores of numbers and of verbs, by the name of what was asked
    DIR/runs/NAME/encoder.json     numbers of `langbridge analyze representations`, of the encoder alone
    DIR/runs/NAME/done.json        written last: a run that has it is finished, and is not made again
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.analyze.alignment import standardised
from langbridge.analyze.corpus import read_corpus
from langbridge.analyze.representations import measure_stage
from langbridge.analyze.states import BRIDGE, Stage, pool_states
from langbridge.errors import LangBridgeError
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.runs import RESULTS
from langbridge.evaluate.runs import Run as Evaluation
from langbridge.evaluate.suites import load_suites
from langbridge.files import read_jsonl, write_atomically
from langbridge.languages import LANGUAGE_GROUPS
from langbridge.miniature import parents
from langbridge.miniature.dataset import SUITE
from langbridge.serve.load import load_engine
from langbridge.train import Recipe, train
from studies.miniature.altered import altered
from studies.miniature.answers import Answers, mean_of
from studies.miniature.mixture import by_name
from studies.miniature.reading import reading
from studies.miniature.sizes import ALL, Sizes
from studies.real.starts import write_start

Setting = TypeVar("Setting")

DEMO_RECIPE = Path(__file__).parents[2] / "recipes" / "miniature" / "demo.yaml"
PLAIN_TEMPLATE = "{prompt}\n"
"""How the miniature's language model reads a problem: its separator asks for the solution."""
MAX_NEW_TOKENS = 48
"""The longest solution has 41 tokens."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions to a run's model, in a folder `name`."""

    name: str
    problems: str = "test"
    """Folder below DIR/data."""
    languages: tuple[str, ...] = ALL
    limit: int
    checkpoint: int | None = None
    """The updates after which, 0 for the start that is written; None for the finished model."""
    altered: Literal["snapped", "snapped-cosine", "moved"] | None = None
    """What the language model is given in place of the soft prompts (`altered.py`)."""


def tested(sizes: Sizes) -> Asked:
    return Asked(name="test", limit=sizes.problems)


def validated(sizes: Sizes, languages: Sequence[str] = ("en",)) -> Asked:
    """English problems, by which settings are chosen."""
    return Asked(name="validation", problems="validation", languages=tuple(languages), limit=sizes.validation)


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that one run is made of; equal names are equal runs."""

    name: str
    model: Literal["trained", "started", "language_model"] = "trained"
    """A training, a connector at its start, or the language model alone."""
    seed: int = 0
    data: str = "en"
    """The training file, DIR/data/train/DATA.jsonl (`data.py`)."""
    examples: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """What is other than in the demo's recipe, by dotted keys."""
    start: Literal["recipe", "random", "permuted"] | None = None
    """The start that is written first (`studies/real/starts.py`), on the training file `start_data`."""
    start_data: str | None = None
    """None for the run's own."""
    reads: bool = False
    """Whether reading scores are taken wherever it is asked."""
    encoder: str | None = None
    language_model: str | None = None
    """Folders of the parents below the study's models; None for the shipped ones."""
    asked: tuple[Asked, ...]
    represented: int = 0
    """So many parallel problems for the numbers on the encoder's states; 0 for none."""

    @property
    def questions(self) -> int:
        return sum(asked.limit * len(asked.languages) for asked in self.asked)

    def as_json(self) -> dict[str, Any]:
        """Without the place of the checkout, so that another one reads the study too."""
        return dict(json.loads(json.dumps(asdict(self)).replace(str(parents.FOLDER), "PARENTS")))


def training(name: str, seed: int, kind: str, examples: int, *asked: Asked, **settings: Any) -> Run:
    """A run that trains on so many examples of a kind."""
    return Run(name=f"{name}-{seed}", seed=seed, data=f"{kind}-{examples}", examples=examples, settings=settings,
               asked=asked)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """Where a study is, its folder and that of the models which `models.py` built, and what is finished of it."""

    out: Path
    models: Path
    sizes: Sizes

    def folder(self, name: str) -> Path:
        return self.out / "runs" / name

    def done(self, run: Run) -> dict[str, Any] | None:
        """What a finished run wrote last; None where it is not finished."""
        path = self.folder(run.name) / "done.json"
        if not path.is_file():
            return None
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["run"] != run.as_json():
            raise LangBridgeError(f"{path.parent}: holds a run with other settings; give another --out, or delete it")
        return dict(record)

    def has(self, runs: Sequence[Run]) -> bool:
        return all(self.done(run) is not None for run in runs)

    def core_seconds(self, run: Run) -> float:
        """What a finished run took of one core, whatever else the machine did."""
        record = self.done(run)
        assert record is not None, "asked of finished runs alone"
        return float(record["core_seconds"])

    def reading(self, run: Run, asked: str) -> dict[str, tuple[float, float]]:
        """The reading scores of a run where it was asked, with their errors."""
        return dict(json.loads((self.folder(run.name) / "reading.json").read_text(encoding="utf-8"))[asked])

    def encoder(self, run: Run) -> dict[str, Any]:
        """The numbers on the states of a run's encoder."""
        return dict(json.loads((self.folder(run.name) / "encoder.json").read_text(encoding="utf-8")))

    def answers(self, run: Run, asked: str = "test") -> Answers:
        return answers_in(self.folder(run.name) / "answers" / asked)

    def by_seed(self, make: Callable[..., Run], *arguments: Any, asked: str = "test") -> list[Answers]:
        """The answers of the run that `make(sizes, *arguments, seed)` is, for every seed."""
        return [self.answers(make(self.sizes, *arguments, seed), asked) for seed in self.sizes.seeds]

    def best(self, trials: Mapping[Setting, Run]) -> Setting | None:
        """The setting with the most English validation problems solved, of equals the first; None where the best is at
        the floor, so that there is nothing to choose by."""
        solved = {setting: mean_of([self.answers(run, "validation")], ["en"]) for setting, run in trials.items()}
        best = max(solved, key=lambda setting: solved[setting].value)
        return None if solved[best].at_floor else best


def answers_in(folder: Path) -> Answers:
    """Of a finished evaluation of the miniature's problems."""
    return {(one.id, one.language): float(one.correct or 0) for one in Evaluation.read(folder).samples(SUITE)}


@by_name()
def carry_out(run: Run, study: Study) -> dict[str, Any]:
    """Make what of a run is not there yet; what `done.json` holds."""
    if (record := study.done(run)) is not None:
        return record
    started, spent = time.monotonic(), time.process_time()
    folder = study.folder(run.name)
    model = _model(run, study, folder)
    for asked in run.asked:
        _ask(run, asked, _at(asked, model, folder), study, folder / "answers" / asked.name)
    if run.reads:
        rows = [row for _, row in read_jsonl(study.out / "data" / "train" / "held-out.jsonl")]
        scores = {asked.name: reading(_at(asked, model, folder), rows) for asked in run.asked}
        write_atomically(folder / "reading.json", json.dumps(scores, indent=1) + "\n")
    if run.represented:
        _represent(model, study.out / "data" / "parallel.jsonl", run.represented, folder / "encoder.json")
    record = {
        "run": run.as_json(),
        "seconds": round(time.monotonic() - started, 1),
        "core_seconds": round(time.process_time() - spent, 1),
    }
    write_atomically(folder / "done.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def _model(run: Run, study: Study, folder: Path) -> Path:
    """The folder of the run's model, trained first where it has to be."""
    if run.model == "language_model":
        return parents.LANGUAGE_MODEL
    recipe, start = recipe_of(run, study), folder / "start"
    if run.start is not None and not start.is_dir():
        data = study.out / "data" / "train" / f"{run.start_data or run.data}.jsonl"
        write_start(
            run.start, recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": str(data)})}), start
        )
    if run.model == "started":
        return start
    if run.start is not None:
        recipe = recipe.model_copy(update={"init": str(start.resolve())})
    return train(recipe, folder / "training", resume=True, progress=False)


def _at(asked: Asked, model: Path, folder: Path) -> Path:
    if asked.checkpoint is None:
        return model
    return folder / "training" / f"checkpoint-{asked.checkpoint}" if asked.checkpoint else folder / "start"


@by_name()
def recipe_of(run: Run, study: Study) -> Recipe:
    """The demo's recipe, but for what the run has otherwise."""
    settings: dict[str, Any] = {
        "encoder": parents.ENCODER if run.encoder is None else study.models / run.encoder,
        "language_model": parents.LANGUAGE_MODEL if run.language_model is None else study.models / run.language_model,
        "data.path": study.out / "data" / "train" / f"{run.data}.jsonl",
        "seed": run.seed,
        **run.settings,
    }
    return Recipe.load(DEMO_RECIPE, [f"{key}={_as_said(value)}" for key, value in settings.items()])


def _as_said(value: Any) -> str:
    """A setting as an override of the command line says it."""
    if value is None or isinstance(value, bool | dict):
        return json.dumps(value)
    return f"{value:e}" if isinstance(value, float) else str(value)  # YAML knows 2.0e-05 for a number, 2e-05 not


def _ask(run: Run, asked: Asked, model: Path, study: Study, out: Path) -> None:
    if (out / RESULTS).is_file():
        return
    tasks = load_suites(
        [str(study.out / "data" / asked.problems / f"{SUITE}.yaml")],
        languages=asked.languages,
        generation={"max_gen_toks": MAX_NEW_TOKENS},
    )
    plain = run.model == "language_model" or asked.altered == "moved"
    engine = load_engine(
        parents.LANGUAGE_MODEL if plain else model, template=PLAIN_TEMPLATE if plain else None, batch_size=50
    )
    with altered(engine, asked.altered, model, run.seed) if asked.altered else nullcontext():
        evaluate(engine, tasks, out, limit=asked.limit, about={"altered": asked.altered})


def _represent(model: Path, corpus: Path, sentences: int, out: Path) -> None:
    """The encoder's numbers of `langbridge analyze representations`, without the other stages and the pictures."""
    bridge = LangBridgeModel.from_pretrained(model, dtype=torch.float32).eval()
    processor = LangBridgeProcessor.from_pretrained(model)
    text = read_corpus(corpus, limit=sentences)
    with tempfile.TemporaryDirectory() as folder:
        pooled = pool_states(bridge, processor, text, folder, batch_size=32)
        states = standardised(pooled.load(Stage(BRIDGE, -1)))
    groups = {group: [code for code in codes if code != "en"] for group, codes in LANGUAGE_GROUPS.items()}
    write_atomically(out, json.dumps(measure_stage(states, text.languages, "en", groups), indent=1) + "\n")
