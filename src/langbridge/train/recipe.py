"""A recipe is everything about one training run: names and numbers, no code.

What must travel with the weights is the model's configuration and lives there; a setting is never in both.
Reading a recipe loads neither torch nor transformers, so `train --dry-run` and a wrong key answer at once.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml

from langbridge.data import write_atomically
from langbridge.errors import LangBridgeError
from langbridge.train.schema import build, check_bounds, load_yaml, set_dotted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ridge:
    """The closed-form start of the linear connector."""

    texts: int = dataclasses.field(default=400, metadata={"at_least": 1})
    """How many English prompts of the training data the regression is fitted on."""

    penalty: float = dataclasses.field(default=1e-4, metadata={"above": 0})
    """Strength of the regularisation, relative to the mean variance of a state's coordinate."""

    balance: float = dataclasses.field(default=0.5, metadata={"at_least": 0})
    """A token of frequency f weighs f ** -balance: 0 counts every occurrence alike, 1 every word."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the training pairs are and what their fields are called."""

    path: str
    """JSONL file, one pair a line."""

    input: str = "query"
    """Field with the prompt; it takes the place of `{prompt}` in the template."""

    output: str = "response"
    """Field with the text to be learned."""

    on_bad_row: Literal["error", "skip"] = "error"
    """Whether a bad row stops the run, or is left out and counted."""

    validation_path: str | None = None
    """JSONL file with the same fields, for the validation loss."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Settings of the optimiser and the loop, under the names of `transformers.TrainingArguments`.

    Two are ours, `encoder_learning_rate` and `encoder_weight_decay`; `arguments()` leaves them out.
    """

    learning_rate: float = dataclasses.field(default=6e-4, metadata={"above": 0})
    """Learning rate of the connector and of new embedding rows."""

    encoder_learning_rate: float = dataclasses.field(default=2e-5, metadata={"above": 0})
    """Learning rate of the encoder where it is trained."""

    weight_decay: float = dataclasses.field(default=0.0, metadata={"at_least": 0})
    """Weight decay of the connector."""

    encoder_weight_decay: float = dataclasses.field(default=0.1, metadata={"at_least": 0})
    """Weight decay of the encoder where it is trained."""

    per_device_train_batch_size: int = dataclasses.field(default=32, metadata={"at_least": 1})
    """Rows in one forward pass on one device."""

    gradient_accumulation_steps: int = dataclasses.field(default=4, metadata={"at_least": 1})
    """Forward passes to one update."""

    per_device_eval_batch_size: int = dataclasses.field(default=32, metadata={"at_least": 1})
    """Rows in one forward pass of the validation."""

    num_train_epochs: float = dataclasses.field(default=1.0, metadata={"above": 0})
    """Passes over the data."""

    max_steps: int = dataclasses.field(default=-1, metadata={"at_least": -1})
    """Updates to stop after, whatever the epochs say; -1 for no limit."""

    max_grad_norm: float = dataclasses.field(default=1.0, metadata={"at_least": 0})
    """Gradients are clipped to this norm; 0 for no clipping."""

    lr_scheduler_type: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "inverse_sqrt"
    ] = "constant"
    """Shape of the learning rate over the run."""

    warmup_steps: float = dataclasses.field(default=0.0, metadata={"at_least": 0})
    """Updates over which the learning rate rises from 0; below 1 it is a share of the run."""

    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor"] = "adamw_torch"
    """The optimiser."""

    adam_beta1: float = dataclasses.field(default=0.9, metadata={"at_least": 0})
    """Decay of the gradient's running mean."""

    adam_beta2: float = dataclasses.field(default=0.999, metadata={"at_least": 0})
    """Decay of the gradient's running square."""

    adam_epsilon: float = dataclasses.field(default=1e-8, metadata={"above": 0})
    """Added to the denominator of the update."""

    bf16: bool = False
    """Mixed precision in bfloat16. Half precision in float16 is not offered: mT5 overflows in it."""

    tf32: bool | None = None
    """Whether matrix products may use TF32 on GPUs that have it; null for torch's own default."""

    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, with less memory."""

    torch_compile: bool = False
    """Compile the model before training."""

    logging_steps: int = dataclasses.field(default=10, metadata={"at_least": 1})
    """Updates between two lines of the log."""

    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    """When the validation loss is measured; it needs `data.validation_path`."""

    eval_steps: int | None = dataclasses.field(default=None, metadata={"at_least": 1})
    """Updates between two validations with `eval_strategy: steps`; null for `logging_steps`."""

    save_strategy: Literal["no", "steps", "epoch"] = "steps"
    """When a checkpoint to resume from is written; the final bridge is always written."""

    save_steps: int = dataclasses.field(default=500, metadata={"at_least": 1})
    """Updates between two checkpoints with `save_strategy: steps`."""

    save_total_limit: int | None = dataclasses.field(default=2, metadata={"at_least": 1})
    """Checkpoints to keep; older ones are deleted. null keeps all."""

    dataloader_num_workers: int = dataclasses.field(default=0, metadata={"at_least": 0})
    """Processes that prepare batches beside the training."""

    report_to: Literal["none", "tensorboard", "wandb", "trackio", "mlflow"] = "none"
    """Tracker that receives the log."""

    run_name: str | None = None
    """The run's name in the tracker."""

    use_cpu: bool = False
    """Train on the CPU even where there is a GPU."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.max_steps == 0:
            raise LangBridgeError("max_steps: expected -1 (no limit) or at least 1, got 0")

    def arguments(self) -> dict[str, Any]:
        """The settings that `transformers.TrainingArguments` takes, by its names."""
        ours = ("encoder_learning_rate", "encoder_weight_decay")
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name not in ours}
        if not settings["activation_checkpointing"]:
            del settings["activation_checkpointing"]  # the name is younger than our oldest transformers
        return settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. `Recipe.load` reads it from YAML, `save` writes it beside the checkpoint."""

    encoder: str
    """Multilingual encoder: a local folder or an id on the Hugging Face hub."""

    language_model: str
    """English-centric causal language model: a local folder or an id on the Hugging Face hub."""

    data: Data
    """The training data."""

    connector: Literal["linear", "mlp", "resampler"] = "linear"
    """What maps the encoder's states to soft prompts."""

    num_latents: int = dataclasses.field(default=64, metadata={"at_least": 1})
    """Soft prompts to a prompt with the resampler; the other connectors make one for each encoder token."""

    template: str = "{prompt}"
    """The text around every prompt, in training and ever after; `{prompt}` is the prompt's place."""

    template_in: Literal["encoder", "lm"] = "encoder"
    """Who reads the template: the encoder (as in the paper), or the language model as its own tokens."""

    init: Literal["auto", "ridge", "random"] = "auto"
    """Start of the connector. `auto` is `ridge` for the linear connector and `random` for the others."""

    ridge: Ridge = dataclasses.field(default_factory=Ridge)
    """Settings of the ridge start."""

    regime: Literal["labelled"] = "labelled"
    """Kind of training data: pairs of a prompt and its answer."""

    freeze_encoder: bool = True
    """Whether the encoder stays as it is. The language model always does."""

    max_encoder_length: int = dataclasses.field(default=1024, metadata={"at_least": 1})
    """Most tokens of a prompt that the encoder reads."""

    max_length: int = dataclasses.field(default=1152, metadata={"at_least": 4})
    """Most positions of the language model's sequence, soft prompts and target together."""

    seed: int = dataclasses.field(default=42, metadata={"at_least": 0})
    """Seed of the initialisation and of the order of the rows."""

    train: Train = dataclasses.field(default_factory=Train)
    """The optimiser and the loop."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.template.count("{prompt}") != 1:
            raise LangBridgeError(f"template: expected {{prompt}} in it once, got {self.template!r}")
        if self.init == "ridge" and self.connector != "linear":
            raise LangBridgeError(f"init: ridge is for the linear connector, not for {self.connector!r}")
        # One soft prompt for each encoder token: BOS, the end vector and a target of one must fit as well.
        if self.connector != "resampler" and self.max_length < self.max_encoder_length + 3:
            raise LangBridgeError(
                f"max_length: {self.max_length} leaves no room for a target after max_encoder_length "
                f"{self.max_encoder_length} soft prompts; expected at least {self.max_encoder_length + 3}"
            )
        if self.train.eval_strategy != "no" and self.data.validation_path is None:
            raise LangBridgeError("train.eval_strategy: needs data.validation_path")

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> "Recipe":
        """Read a YAML file, carry `a.b=value` overrides into it, and check everything.

        Relative paths are looked for in the current folder first, then beside the recipe.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise LangBridgeError(f"{path}: no such recipe file")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise LangBridgeError(f"{path}: not UTF-8 text") from None
        mapping = load_yaml(text, str(path))
        if not isinstance(mapping, dict):
            raise LangBridgeError(f"{path}: expected a recipe's keys and values, such as `encoder: FOLDER`")
        for assignment in overrides:
            try:
                set_dotted(mapping, cls, assignment)
            except LangBridgeError as error:
                raise LangBridgeError(f"override {error}") from None
        try:
            return build(cls, mapping)._resolved(path.parent)
        except LangBridgeError as error:
            raise LangBridgeError(f"{path}: {error}") from None

    def _resolved(self, folder: Path) -> "Recipe":
        data = dataclasses.replace(
            self.data,
            path=_found(self.data.path, folder),
            validation_path=self.data.validation_path and _found(self.data.validation_path, folder),
        )
        return dataclasses.replace(
            self,
            encoder=_found(self.encoder, folder),
            language_model=_found(self.language_model, folder),
            data=data,
        )

    def check_files(self) -> None:
        """Raise for a data file that does not exist, and for a base that is a path and no model's folder."""
        for name, file in (
            ("data.path", self.data.path),
            ("data.validation_path", self.data.validation_path),
        ):
            if file is not None and not Path(file).is_file():
                raise LangBridgeError(f"{name}: no such file: {file}")
        for name, base in (("encoder", self.encoder), ("language_model", self.language_model)):
            if Path(base).is_dir():
                if not (Path(base) / "config.json").is_file():
                    raise LangBridgeError(f"{name}: the folder {base} has no config.json")
            elif base.startswith((".", "/", "~")) or base.count("/") != 1 or Path(base).parent.is_dir():
                # Ids on the hub are OWNER/NAME, so everything else was meant as a path.
                raise LangBridgeError(f"{name}: no such folder: {base}")

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain values, defaults included."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """Every setting as YAML that `load` reads back to an equal recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    def save(self, path: str | Path) -> None:
        """Write the whole recipe, all or nothing."""
        write_atomically(path, self.to_yaml())


def _found(name: str, folder: Path) -> str:
    """A path as it is found from here; what is found nowhere (an id on the hub, a typo) stays as given."""
    path = Path(name).expanduser()
    if path.exists() or path.is_absolute():
        return str(path)
    beside = folder / path
    return str(beside) if beside.exists() else name
