"""A recipe is everything about one training run: names and numbers, no code.

What must travel with the weights is the model's configuration and lives there; a setting is never in both.
Reading a recipe loads neither torch nor transformers, so `train --dry-run` and a wrong key answer at once.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from langbridge.data import Data, is_here
from langbridge.data.text_noise import TextNoise
from langbridge.errors import LangBridgeError
from langbridge.files import named_as_on_the_hub, write_atomically
from langbridge.model.connectors.settings import ConnectorSettings, LinearSettings
from langbridge.model.sequence import chats, check_template, gives_own_copy
from langbridge.settings import Settings, override, read_yaml
from langbridge.train.blocks import Distil, Lora, Ridge
from langbridge.train.hyperparameters import Train
from langbridge.train.objectives import objective_of


class Recipe(Settings):
    """One training run. `Recipe.load` reads it from YAML, `save` writes it beside the checkpoint."""

    encoder: str | None = None
    """Multilingual encoder: a local folder or an id on the Hugging Face hub. Needed unless `objective` is `plain`."""

    language_model: str
    """English-centric causal language model: a local folder or an id on the Hugging Face hub."""

    data: Data
    """The training data."""

    objective: str = "labelled"
    """What is learned from what: `labelled` pairs of a prompt and its answer (the paper's for fine-tuned language
    models), `unlabelled` text whose beginning is read by the encoder and whose continuation is written (for base
    language models), `plain`, the language model alone fine-tuned on the same data (the paper's baselines), `distil`,
    pairs or texts of which the language model teaches its bridge what it makes of them itself, or one of another
    package. Once called `regime`, with `lm_only` for `plain`."""

    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Precision of the frozen models; `auto` as each was saved, or float32 where this machine is slow in that. What is
    trained is always kept in float32."""

    connector: ConnectorSettings = LinearSettings()
    """What maps the encoder's states to soft prompts: a kind (`linear`, `layerwise`, `mlp`, `resampler`, or one of
    another package), or a kind and its settings (`{kind: resampler, num_latents: 32}`, `{kind: linear, encoder_layers:
    [6, 12]}`)."""

    template: str = "{prompt}"
    """The text around every prompt, in training and ever after; `{prompt}` is the prompt's place, and `<soft>` to
    `</soft>` what the encoder reads. `chat` for the chat template that the language model's tokenizer brings."""

    template_in: Literal["encoder", "lm"] = "encoder"
    """Who reads a template without `<soft>`: the encoder (as in the paper), or the language model as its own tokens, as
    always with `template: chat`."""

    system: str | None = None
    """With `template: chat`, the system message; null leaves it to the template, which may have one of its own."""

    drop_bare_tokens: bool = False
    """Whether the encoder's tokens that stand for no character (`<s>`, a lone `▁`) are left without a soft prompt. The
    paper has one for every token."""

    split_digits: bool = False
    """Whether the encoder reads numbers digit by digit, where the language model's tokenizer has them so."""

    text_noise: TextNoise = TextNoise()
    """What training does to the prompt's copy that the language model reads as its own tokens, with a template that
    gives it one (`<soft>{prompt}</soft>{prompt}`). Evaluations and answers always have it whole. Off by default."""

    state_noise: NonNegativeFloat = 0.0
    """Noise on what the connector reads, in training: its standard deviation, as a share of each coordinate's own."""

    init: str = "auto"
    """Start of the connector: `ridge`, `random`, or `auto`, which is `ridge` for a connector with a closed-form start
    (`linear`, `layerwise`) and `random` for the others. Or a bridge between these models, a folder or an id on the hub,
    to go on from: its connector, its new rows, its encoder where that was trained, its language model where that is
    merged."""

    ridge: Ridge = Ridge()
    """Settings of the ridge start."""

    freeze_encoder: bool | None = None
    """Whether the encoder stays as it is; null for the paper's choice: frozen with `labelled` pairs, trained with
    `unlabelled` text."""

    freeze_connector: bool = False
    """Whether the connector stays as it starts, and the new rows where the encoder is frozen; something else must then
    be trained."""

    lora: Lora = Lora()
    """Adapters on the language model, which is frozen without them. Off by default."""

    distil: Distil = Distil()
    """Settings of `objective: distil`."""

    max_encoder_length: PositiveInt = 1024
    """Most tokens of a prompt that the encoder reads; unlabelled batches draw their length up to it."""

    min_encoder_length: PositiveInt = 32
    """Fewest encoder tokens that an unlabelled batch draws."""

    max_length: int = Field(default=1152, ge=4)
    """Most positions of the language model's sequence, soft prompts and target together."""

    min_lm_length: PositiveInt = 128
    """Fewest positions that an unlabelled batch leaves to the language model's continuation."""

    seed: NonNegativeInt = 42
    """Seed of the initialisation and of the order of the rows."""

    train: Train = Train()
    """The optimiser and the loop."""

    stages: tuple[dict[str, Any], ...] = ()
    """Several runs in order, each with the keys in which it differs from the recipe around it. Each begins with the
    bridge that the one before left."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, value: Any) -> Any:
        return _as_now_named(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stages:  # each is checked by itself; what depends on the objective is left to it
            self._check_stages()
            return self
        check_template(self.template, self.system)
        if chats(self.template):
            object.__setattr__(self, "template_in", "lm")
        if self.init == "ridge" and not self.connector.closed_form:
            raise LangBridgeError(f"init: got ridge, but the connector {self.connector} has no closed-form start")
        objective = objective_of(self)
        objective.check()
        if self.text_noise:
            self._check_text_noise(objective)
        if self.train.eval_strategy != "no" and not self.data.validation_sources(objective.kind):
            raise LangBridgeError("train.eval_strategy: needs data.validation_path or data.validation")
        if self.data.streaming and self.train.max_steps < 0:
            raise LangBridgeError("train.max_steps: missing; data.streaming needs it, because a stream has no length")
        for key in ("save_strategy", "eval_strategy"):
            if self.data.streaming and getattr(self.train, key) == "epoch":
                raise LangBridgeError(
                    f"train.{key}: got 'epoch' with data.streaming, which has no ends of epochs; expected steps or no"
                )
        if self.train.max_steps == 0:
            self._check_start_alone()
        if self.freeze_encoder is None:
            object.__setattr__(self, "freeze_encoder", objective.freeze_encoder or self.train.max_steps == 0)
        if self.lora.r and self.train.fsdp:
            raise _sharded_adapters("train.fsdp")
        if self.freeze_connector and self.freeze_encoder and not self.lora.r:
            raise LangBridgeError("freeze_connector: leaves nothing to train; give lora.r, or freeze_encoder: false")
        return self

    def _check_text_noise(self, objective: Any) -> None:
        if not objective.noises_text:
            raise LangBridgeError(
                f"text_noise: objective {self.objective} has no use for it; expected labelled, or leave it out"
            )
        if not gives_own_copy(self.template):
            raise LangBridgeError(
                f"text_noise: has no effect, because template {self.template!r} has the prompt read by the encoder "
                "alone; expected {prompt} outside <soft>...</soft> as well"
            )

    def _check_stages(self) -> None:
        for number, stage in enumerate(self.stages):
            for key in ("encoder", "language_model", "connector", "stages", *(["init"] if number else [])):
                if key in stage:
                    raise LangBridgeError(f"stages[{number}].{key}: is the whole run's; leave it out of a stage")
        recipes = self.stage_recipes
        if len({objective_of(stage).bridged for stage in recipes}) > 1:
            raise LangBridgeError("stages: some train a bridge, others the plain language model; expected all alike")
        for number, recipe in enumerate(recipes):
            if number and recipe.train.max_steps == 0:
                raise LangBridgeError(f"stages[{number}].train.max_steps: got 0; only a first stage may do without")

    @property
    def stage_recipes(self) -> tuple["Recipe", ...]:
        """The recipe of each stage, the keys of the stage over those around it; without stages, itself alone."""
        around = {key: value for key, value in self.to_dict().items() if key != "stages"}
        read = [
            Recipe.read(_over(_without_rows(around, stage), _as_now_named(stage)), f"stages[{number}]")
            for number, stage in enumerate(self.stages)
        ]
        return tuple(read) or (self,)

    @property
    def begins_with(self) -> str | None:
        """The bridge that `init` names, None for a fresh connector."""
        return None if self.init in ("auto", "ridge", "random") else self.init

    def _check_start_alone(self) -> None:
        """Without an update the bridge is what its start makes of it, so nothing may be asked for that is learned."""
        if self.begins_with is not None:
            raise LangBridgeError(f"train.max_steps: got 0, but init is the bridge {self.init}: nothing would be made")
        if not self.connector.closed_form or self.init == "random":
            raise LangBridgeError(
                f"train.max_steps: got 0, which keeps the closed-form start alone, but connector {self.connector} with "
                f"init {self.init} starts at random; expected connector linear and init auto or ridge"
            )
        for key, learned in (("lora.r", self.lora.r > 0), ("freeze_encoder", self.freeze_encoder is False)):
            if learned:
                raise LangBridgeError(f"{key}: asks for training, but train.max_steps is 0; leave it out")

    def to_bridge_arguments(self) -> dict[str, Any]:
        """The settings that decide bridge and processor, by the names of `langbridge.model.build_bridge`.

        Those of the processor alone are the same but for the bases, which come first in both.
        """
        assert self.encoder is not None, "a plain language model is no bridge"
        return {
            "encoder": self.encoder,
            "language_model": self.language_model,
            "connector": self.connector,
            "template": self.template,
            "template_in": self.template_in,
            "system": self.system,
            "drop_bare_tokens": self.drop_bare_tokens,
            "split_digits": self.split_digits,
        }

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Recipe":
        """Read a YAML file, carry `a.b=value` overrides into it, and check everything.

        Relative paths are looked for in the current folder first, then beside the recipe.
        """
        path = Path(path).expanduser()
        mapping = read_yaml(path)
        if not isinstance(mapping, dict):
            raise LangBridgeError(f"{path}: expected a recipe's keys and values, such as `encoder: FOLDER`")
        try:
            mapping.setdefault("connector", LinearSettings().kind)
            if "num_latents" in mapping:  # where it stood before connectors had settings of their own
                latents = mapping.pop("num_latents")
                mapping["connector"] = ConnectorSettings.read(mapping["connector"], num_latents=latents).to_dict()
            for assignment in overrides:
                _forget_language(mapping, assignment)
            for assignment in overrides:
                override(mapping, assignment)
            return cls.read(mapping)._resolved(path.parent)
        except LangBridgeError as error:
            key = re.escape(re.sub(r"\[(\d+)\]", r".\1", str(error).partition(": ")[0]))
            overridden = any(re.match(rf"\s*{key}\s*[.=]", assignment) for assignment in overrides)
            raise LangBridgeError(f"{path}: {'override ' if overridden else ''}{error}") from None

    def _resolved(self, folder: Path) -> "Recipe":
        files = {key: getattr(self.train, key) for key in ("deepspeed", "fsdp_config")}
        moved: dict[str, Any] = {
            "encoder": self.encoder and _found(self.encoder, folder),
            "language_model": _found(self.language_model, folder),
            "data": self.data.relocated(lambda name: _found(name, folder)),
            "train": self.train.model_copy(update={key: file and _found(file, folder) for key, file in files.items()}),
        }
        if self.begins_with is not None:
            moved["init"] = _found(self.init, folder)
        moved["stages"] = tuple(
            _taken(recipe._resolved(folder).to_dict(), _as_now_named(stage))
            for recipe, stage in zip(self.stage_recipes, self.stages, strict=bool(self.stages))
        )
        return self.model_copy(update=moved)

    def check_files(self) -> None:
        """Raise for a data file that does not exist, for a base that is a path and no model's folder, and for what a
        DeepSpeed configuration says that does not go with the rest."""
        if self.stages:
            for stage in self.stage_recipes:
                stage.check_files()
            return
        if self.begins_with is not None and not Path(self.init).is_dir() and not _may_be_id(self.init):
            raise LangBridgeError(
                f"init: expected auto, ridge, random, or the folder of a bridge, got {self.init!r}, which is none"
            )
        self.data.check_files("data")
        for name, file in self.train.files.items():
            if file is not None and not Path(file).is_file():
                raise LangBridgeError(f"{name}: no such file: {file}")
        if self.lora.r and self.train.sharding == "zero3":
            raise _sharded_adapters(f"ZeRO-3 ({self.train.deepspeed})")
        for name, base in (("encoder", self.encoder), ("language_model", self.language_model)):
            if base is None:
                continue
            if Path(base).is_dir():
                if not (Path(base) / "config.json").is_file():
                    raise LangBridgeError(f"{name}: the folder {base} has no config.json")
            elif not _may_be_id(base):
                raise LangBridgeError(f"{name}: no such folder: {base}")

    def to_yaml(self) -> str:
        """Every setting as YAML that `load` reads back to an equal recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    def save(self, path: str | Path) -> None:
        """Write the whole recipe, all or nothing."""
        write_atomically(path, self.to_yaml())


def _sharded_adapters(sharding: str) -> LangBridgeError:
    return LangBridgeError(
        f"lora: does not go with {sharding}, which has the language model's weights in pieces, so that adapters "
        "can be neither saved nor merged; use one whole language model a process (no sharding), or ZeRO-2 "
        "(train.deepspeed: recipes/deepspeed/zero2.json)"
    )


def _may_be_id(name: str) -> bool:
    """Whether what is no folder here may be an id on the hub, OWNER/NAME; all else was meant as a path."""
    return named_as_on_the_hub(name) and not Path(name).parent.is_dir()


def _as_now_named(keys: Any) -> Any:
    """A recipe's keys, those of earlier versions by their new names."""
    if not isinstance(keys, dict) or "regime" not in keys:
        return keys
    named = {key: value for key, value in keys.items() if key != "regime"}
    # Beside `objective` it is an override in its earlier name.
    return {**named, "objective": "plain" if keys["regime"] == "lm_only" else keys["regime"]}


def _over(around: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """The one with the keys of the other over its own, block by block."""
    both = [key for key in stage if isinstance(stage[key], dict) and isinstance(around.get(key), dict)]
    return {**around, **stage, **{key: _over(around[key], stage[key]) for key in both}}


def _forget_language(mapping: Any, assignment: str) -> None:
    """Where an override names other rows, a recipe no longer knows in which language they are."""
    *keys, last = assignment.partition("=")[0].strip().split(".")
    if last not in ("path", "sources"):
        return
    for key in keys:
        at = int(key) if isinstance(mapping, list) and key.isdecimal() and int(key) < len(mapping) else key
        mapping = mapping[at] if isinstance(at, int) else mapping.get(at) if isinstance(mapping, dict) else None
    if isinstance(mapping, dict):
        mapping.pop("language", None)


def _without_rows(around: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """What stands around a stage, without what is said there of rows that the stage has others for."""
    own = stage.get("data") or {}
    if "path" not in own and "sources" not in own:
        return around
    data = {key: value for key, value in around["data"].items() if key not in ("targets", "language")}
    return {**around, "data": data}


def _taken(whole: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Of `whole` what has the keys of `asked`."""
    return {key: _taken(whole[key], value) if isinstance(value, dict) else whole[key] for key, value in asked.items()}


def _found(name: str, folder: Path) -> str:
    """A path as it is found from here; what is found nowhere (an id on the hub, a typo) stays as given."""
    path = Path(name).expanduser()
    if path.is_absolute() or is_here(name):
        return str(path)
    beside = str(folder / path)
    return beside if is_here(beside) else name
