"""One run of a study: a model out of the ordinary training, questions through the ordinary evaluation, and, where it is
asked for, the ordinary analysis of the encoder's states.

    DIR/runs/NAME/training/final   what `langbridge train` writes
    DIR/runs/NAME/answers/ASKED    what `langbridge evaluate` writes
    DIR/runs/NAME/encoder.json     numbers of `langbridge analyze representations`, of the encoder alone
    DIR/runs/NAME/done.json        written last: a run that has it is finished, and is not made again
"""

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.miniature.dataset import SUITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langbridge.evaluate.asking import Asker

DONE = "done.json"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions to a run's model, in a folder `name`."""

    name: str
    problems: str = "test"
    """Folder below DIR/data."""
    languages: tuple[str, ...]
    limit: int
    checkpoint: int | None = None
    """The updates after which; None for the finished model."""
    snapped: bool = False
    """Whether each soft prompt gives way to the nearest of the language model's own embeddings."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that one run is made of; equal names are equal runs."""

    name: str
    model: Literal["trained", "started", "language_model"]
    """A training, a connector at its start, or the language model alone."""
    seed: int = 0
    data: str = "en"
    """The training file, DIR/data/train/DATA.jsonl."""
    examples: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """What is other than in the demo's recipe, by dotted keys."""
    held_out: bool = False
    """Whether reading scores are taken on held-out problems, and not on some of the training's."""
    encoder: str | None = None
    """Folder of the encoder below the study's models; None for the shipped one."""
    asked: tuple[Asked, ...]
    represented: int = 0
    """So many parallel problems for the numbers on the encoder's states; 0 for none."""

    @property
    def questions(self) -> int:
        return sum(asked.limit * len(asked.languages) for asked in self.asked)

    def as_json(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps(asdict(self))))


@dataclass(frozen=True)
class Place:
    """Where a study is: its folder, and that of the models which `miniature build --study` made."""

    out: Path
    models: Path

    def folder(self, name: str) -> Path:
        return self.out / "runs" / name

    def done(self, run: Run) -> dict[str, Any] | None:
        """What a finished run wrote last; None where it is not finished."""
        path = self.folder(run.name) / DONE
        if not path.is_file():
            return None
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["run"] != run.as_json():
            raise LangBridgeError(f"{path.parent}: holds a run with other settings; give another --out, or delete it")
        return dict(record)


def carry_out(run: Run, place: Place) -> dict[str, Any]:
    """Make what of a run is not there yet; what `done.json` holds."""
    if (record := place.done(run)) is not None:
        return record
    started, spent = time.monotonic(), time.process_time()
    folder = place.folder(run.name)
    model = _model(run, place, folder)
    for asked in run.asked:
        _ask(run, asked, model, place, folder)
    if run.represented:
        _represent(model, place.out / "data" / "parallel.jsonl", run.represented, folder / "encoder.json")
    record = {
        "run": run.as_json(),
        "seconds": round(time.monotonic() - started, 1),
        "core_seconds": round(time.process_time() - spent, 1),
    }
    write_atomically(folder / DONE, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def _model(run: Run, place: Place, folder: Path) -> Path:
    """The folder of the run's model, trained first where it has to be."""
    from langbridge.miniature import parents

    if run.model == "language_model":
        return parents.LANGUAGE_MODEL
    training = folder / "training"
    if (training / "final").is_dir():
        return training / "final"
    recipe = _recipe(run, place)
    if run.model == "trained":
        from langbridge.train.run import train

        return train(recipe, training, resume=True, progress=False)
    from transformers.trainer_utils import set_seed

    from langbridge.train.parts import build_model, collators, load_processor, open_rows, start_connector

    rows = open_rows(recipe, collators(recipe, load_processor(recipe)))
    set_seed(recipe.seed)
    bridge, processor = build_model(recipe)
    start_connector(bridge, processor, rows.training, recipe)
    part = training / ".final"
    bridge.save_pretrained(part)
    processor.save_pretrained(part)
    return part.rename(training / "final")


def _recipe(run: Run, place: Place) -> Any:
    from langbridge.cli.demo import demo_recipe
    from langbridge.miniature import parents
    from langbridge.train.recipe import Recipe

    settings: dict[str, Any] = {
        "encoder": parents.ENCODER if run.encoder is None else place.models / run.encoder,
        "language_model": parents.LANGUAGE_MODEL,
        "data.path": place.out / "data" / "train" / f"{run.data}.jsonl",
        "seed": run.seed,
        **run.settings,
    }
    if run.held_out:
        settings["data.validation_path"] = place.out / "data" / "train" / "held-out.jsonl"
    return Recipe.load(demo_recipe(), [f"{key}={_as_said(value)}" for key, value in settings.items()])


def _as_said(value: Any) -> str:
    """A setting as an override of the command line says it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:e}" if isinstance(value, float) else str(value)  # YAML knows 2.0e-05 for a number, 2e-05 not


def _ask(run: Run, asked: Asked, model: Path, place: Place, folder: Path) -> None:
    from langbridge.cli.demo import MAX_NEW_TOKENS
    from langbridge.evaluate.evaluating import evaluate
    from langbridge.evaluate.models import load_asker
    from langbridge.evaluate.runs import RESULTS
    from langbridge.evaluate.suites import load_suites

    out = folder / "answers" / asked.name
    if (out / RESULTS).is_file():
        return
    if asked.checkpoint is not None:
        model = model.parent / f"checkpoint-{asked.checkpoint}"
    plain = run.model == "language_model" or run.settings.get("regime") == "lm_only"
    asker, about = load_asker(str(model), template=PLAIN_TEMPLATE if plain else None, batch_size=50)
    tasks = load_suites(
        [str(place.out / "data" / asked.problems / f"{SUITE}.yaml")],
        languages=asked.languages,
        generation={"max_gen_toks": MAX_NEW_TOKENS},
    )
    with snapped(asker) if asked.snapped else _as_it_is():
        evaluate(asker, tasks, out, limit=asked.limit, about={**about, "snapped": asked.snapped})


EXACT = "donot_use_mm_for_euclid_dist"
"""Distances of torch that are right to the last digits: of two rows nearly as near the nearer one is found."""

PLAIN_TEMPLATE = "{prompt}\n"
"""How the miniature's language model reads a problem: its separator asks for the solution."""


@contextmanager
def _as_it_is() -> "Iterator[None]":
    yield


@contextmanager
def snapped(asker: "Asker") -> "Iterator[None]":
    """Within, a bridge's soft prompts are the language model's own embeddings: of each the nearest by distance. The end
    vector stays what it is: it was learned, stands for no text, and says where the prompt ends."""
    import torch

    model = asker.lm.model
    table = model.get_input_embeddings().weight.detach()

    def snap(_: Any, __: Any, found: tuple[Any, Any]) -> tuple[Any, Any]:
        soft, mask = found
        nearest = torch.cdist(soft.float().flatten(0, 1), table.float(), compute_mode=EXACT).argmin(-1)
        own = table[nearest].reshape(soft.shape).to(soft.dtype)
        return torch.cat([own[:, :-1], soft[:, -1:]], dim=1), mask

    handle = model.connector.register_forward_hook(snap)
    try:
        yield
    finally:
        handle.remove()


def _represent(model: Path, corpus: Path, sentences: int, out: Path) -> None:
    """The encoder's numbers of `langbridge analyze representations`, without the other stages and the pictures."""
    import tempfile

    from langbridge.analyze.alignment import standardised
    from langbridge.analyze.corpus import read_corpus
    from langbridge.analyze.representations import measure_stage
    from langbridge.analyze.states import BRIDGE, Stage, pool_states
    from langbridge.cli.bridge import load_bridge
    from langbridge.languages import LANGUAGE_GROUPS

    if out.is_file():
        return
    bridge, processor = load_bridge(model)
    text = read_corpus(corpus, limit=sentences)
    with tempfile.TemporaryDirectory() as folder:
        pooled = pool_states(bridge, processor, text, folder, batch_size=32)
        states = standardised(pooled.load(Stage(BRIDGE, -1)))
    groups = {group: [code for code in codes if code != "en"] for group, codes in LANGUAGE_GROUPS.items()}
    numbers = measure_stage(states, text.languages, "en", groups)
    write_atomically(out, json.dumps(numbers, indent=1) + "\n")


class Found:
    """The finished runs of a study, by name."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def has(self, runs: list[Run]) -> bool:
        return all(self.place.done(run) is not None for run in runs)

    def core_seconds(self, run: Run) -> float:
        """What a run took of one core, whatever else the machine did."""
        record = self.place.done(run)
        return 0.0 if record is None else float(record["core_seconds"])

    def log(self, name: str) -> list[dict[str, Any]]:
        """What the training of a run logged."""
        path = self.place.folder(name) / "training" / "final" / "training_log.json"
        return list(json.loads(path.read_text(encoding="utf-8"))["history"])

    def encoder(self, name: str) -> dict[str, Any]:
        """The numbers on the states of a run's encoder."""
        path = self.place.folder(name) / "encoder.json"
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def answers(self, name: str, asked: str = "test") -> dict[tuple[str, str], float]:
        """1 or 0 for each (problem, language)."""
        from langbridge.evaluate.runs import Run as Evaluation

        evaluation = Evaluation.read(self.place.folder(name) / "answers" / asked)
        return {(one.id, one.language): float(one.correct or 0) for one in evaluation.samples(SUITE)}
