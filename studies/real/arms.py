"""The arms of the study: in what each differs from `recipe.yaml`, and the recipe of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from langbridge.errors import LangBridgeError
from langbridge.train import Recipe
from langbridge.train.objectives.labelled import Labelled
from studies.real.disturbed import Careless, LayerDropout, Norms

BASE = Path(__file__).with_name("recipe.yaml")
ENCODER = "multilingual-e5-small"
RANDOM_RATE = "6.0e-4"
"""The paper's learning rate, for connectors that start at random; the recipe's is for those that read already."""


@dataclass(frozen=True)
class Pair:
    """Folders of two models below `--models`, and the recipe that all arms begin with, with what is other in it."""

    language_model: str
    encoder: str = ENCODER
    base: Path = BASE
    settings: Mapping[str, str] = field(default_factory=dict)


PAIRS = {
    "smollm2": Pair("smollm2-135m-instruct"),
    "qwen": Pair("qwen2.5-coder-0.5b-instruct"),
    "qwen1.5b": Pair("qwen2.5-coder-1.5b-instruct"),
}


@dataclass(frozen=True)
class Arm:
    """settings: what is other than in the base recipe, as `--set` takes it. start: a start of `starts.py`, which stands
    in for the recipe's. trained: False for the start alone. bridge: False for the language model that reads the
    question itself. data: the training file below `--data`. stages: of a training in stages, what each has otherwise,
    by the number of updates and the data's folder; such an arm keeps no checkpoints. of: for an arm that is not trained
    itself, the one or two that it is made of; mean: how much of the second there is in their mean. asked_in: the
    template in which one other's bridges are asked, which is not the one that they were trained in. objective: what
    stands in for `labelled` while it is trained."""

    says: str
    settings: Mapping[str, str] = field(default_factory=dict)
    start: Literal["random", "permuted"] | None = None
    trained: bool = True
    bridge: bool = True
    data: str = "gsm8k/train.jsonl"
    stages: Callable[[int, Path], list[dict[str, Any]]] | None = None
    mean: float | None = None
    of: tuple[str, ...] | None = None
    asked_in: str | None = None
    objective: type[Labelled] | None = None

    @property
    def own(self) -> bool:
        """Whether its bridge is its own, and not made of others'."""
        return self.bridge and self.of is None


BESIDE = "chat: <soft>{prompt}</soft>\n{prompt}"
"""The chat template, in which the language model has the question as its own text behind the soft prompts."""

_ENDS = ("closed", "labelled")
ARMS = {
    "closed": Arm("the closed form alone", trained=False),
    "labelled": Arm("closed form, trained on gold solutions"),
    "distil": Arm("closed form, taught by the language model", {"objective": "distil"}),
    "distil4": Arm("the same through 4 layers", {"objective": "distil", "distil.layers": "4"}),
    "random": Arm("random start at the scale of embeddings, gold solutions", {"train.learning_rate": RANDOM_RATE},
                  start="random"),
    "permuted": Arm("closed form with its outputs permuted, gold solutions", start="permuted"),
    "last": Arm("closed form on the last layer alone, gold solutions", {"connector.encoder_layers": "null"}),
    "mlp": Arm("an MLP from a random start, gold solutions",
               {"connector.kind": "mlp", "init": "random", "train.learning_rate": RANDOM_RATE}),
    "mean": Arm("mean of closed and labelled", mean=0.5, of=_ENDS),
    "mean25": Arm("the same with a quarter of labelled", mean=0.25, of=_ENDS),
    "mean75": Arm("the same with three quarters of labelled", mean=0.75, of=_ENDS),
    "mean_beside": Arm("mean, asked with the question as text too", of=("mean",), asked_in=BESIDE),
    "noise": Arm("labelled, with noise on the encoder's states", {"state_noise": "0.5"}),
    "layer_dropout": Arm("labelled, with a quarter of the encoder's layers left out", objective=LayerDropout),
    "careless": Arm("labelled, half of the prompts mistyped", objective=Careless),
    "norms": Arm("labelled, with the encoder's norms and biases", objective=Norms,
                 settings={"freeze_encoder": "false", "train.encoder_learning_rate": "3.0e-4"}),
    "text": Arm("no bridge: the language model reads the question", trained=False, bridge=False),
}  # fmt: skip

REFERENCE = "labelled"
"""The arm that others are held against, question by question."""
COMPARED = ("closed", "distil", "distil4", "last", "random")
"""The comparisons that are planned, for which p values are corrected."""
FROM_CLOSED = ("labelled", "distil", "distil4", "mean", "mean25", "mean75")
"""Arms whose curves begin where `closed` stays."""


@dataclass(frozen=True)
class Design:
    """The arms and pairs of a study, by name."""

    arms: Mapping[str, Arm] = field(default_factory=lambda: ARMS)
    pairs: Mapping[str, Pair] = field(default_factory=lambda: PAIRS)


def recipe_of(
    arm: Arm, *, pair: Pair, models: Path, data: Path, seed: int, examples: int, settings: Sequence[str] = ()
) -> Recipe:
    """The recipe of a run without its start: base, then the arm's own settings, then `settings` (KEY=VALUE), then what
    the run is. Raises `LangBridgeError` for a folder or file that is missing."""
    folders = (pair.encoder, pair.language_model)
    for name in folders:
        if not (models / name / "config.json").is_file():
            raise LangBridgeError(f"--models {models}: has no model in {name}/; expected {'/ and '.join(folders)}/")
    own = {**pair.settings, **arm.settings}
    run = {
        "encoder": models.resolve() / pair.encoder,
        "language_model": models.resolve() / pair.language_model,
        "data.path": data.resolve() / arm.data,
        "seed": seed,
    }
    own_told, run_told = ([f"{key}={value}" for key, value in part.items()] for part in (own, run))
    recipe = Recipe.load(pair.base, [*own_told, *settings, *run_told])
    size = recipe.train.per_device_train_batch_size * recipe.train.gradient_accumulation_steps
    if arm.trained and (examples < size or examples % size):
        raise LangBridgeError(f"--examples: got {examples}, expected a multiple of {size}, the examples of an update")
    steps = examples // size if arm.trained else 0
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_steps": steps})})
    if arm.stages is not None:
        recipe = Recipe.model_validate({**recipe.to_dict(), "stages": arm.stages(steps, data.resolve())})
    recipe.check_files()
    return recipe
