"""The `train:` block of a recipe: optimiser and loop, under the names of `transformers.TrainingArguments`."""

import json
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from langbridge.errors import LangBridgeError
from langbridge.settings import Settings

_OURS = """
    encoder_learning_rate encoder_weight_decay positions_per_pass reading_score_steps reading_score_rows
    reading_score_patience plateau_score plateau_patience stop_on_plateau push_to_hub hub_model_id hub_private_repo
"""
OURS = frozenset(_OURS.split())
"""Keys that `Train.arguments` leaves out. The last three have the names of `TrainingArguments`, but what goes to the
hub is our final folder, once, and not the trainer's own uploads."""


Sharding = Literal["none", "zero2", "zero3", "fsdp"]


class Train(Settings):
    """Settings of the optimiser and the loop. Those named in `OURS` are not of `TrainingArguments`."""

    learning_rate: PositiveFloat | None = None
    """Learning rate of the connector and of new embedding rows, or of the language model with `objective: plain`; null
    for one that fits the start: a hundredth of the connector's weights (root mean square) where it reads already, by
    the closed form or as an earlier bridge, and else the paper's, 6e-4, and 2e-5 with `plain`."""

    encoder_learning_rate: PositiveFloat = 2e-5
    """Learning rate of the encoder where it is trained."""

    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of the connector, or of the language model with `objective: plain`."""

    encoder_weight_decay: NonNegativeFloat = 0.1
    """Weight decay of the encoder where it is trained."""

    per_device_train_batch_size: PositiveInt = 32
    """Rows in one forward pass on one device."""

    gradient_accumulation_steps: PositiveInt = 4
    """Forward passes to one update."""

    positions_per_pass: PositiveInt | None = None
    """Most positions, padding included, in one forward and backward pass: a batch of longer rows takes several, with
    the same gradients and less memory. null for one pass a batch."""

    per_device_eval_batch_size: PositiveInt = 32
    """Rows in one forward pass of the validation and of the reading score."""

    num_train_epochs: PositiveFloat = 1.0
    """Passes over the data."""

    max_steps: int = Field(default=-1, ge=-1)
    """Updates to stop after, whatever the epochs say; -1 for no limit. 0 trains nothing: the bridge is written as the
    closed-form start leaves it. Streamed data needs a number."""

    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are clipped to this norm; 0 for no clipping."""

    lr_scheduler_type: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "inverse_sqrt"
    ] = "constant"
    """Shape of the learning rate over the run."""

    warmup_steps: NonNegativeFloat = 0.0
    """Updates over which the learning rate rises from 0; below 1 it is a share of the run."""

    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor"] = "adamw_torch"
    """The optimiser."""

    adam_beta1: NonNegativeFloat = 0.9
    """Decay of the gradient's running mean."""

    adam_beta2: NonNegativeFloat = 0.999
    """Decay of the gradient's running square."""

    adam_epsilon: PositiveFloat = 1e-8
    """Added to the denominator of the update."""

    bf16: bool = False
    """Mixed precision in bfloat16, for GPUs: on a CPU it works, and is slower than `dtype: auto` alone. Half
    precision in float16 is not offered: mT5 overflows in it."""

    tf32: bool | None = None
    """Whether matrix products may use TF32 on GPUs that have it; null for torch's own default."""

    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, with less memory. Once called gradient checkpointing."""

    torch_compile: bool = False
    """Compile the model before training."""

    logging_steps: PositiveInt = 10
    """Updates between two lines of the log."""

    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    """When the validation loss is measured; it needs validation data."""

    eval_steps: PositiveInt | None = None
    """Updates between two validations with `eval_strategy: steps`; null for `logging_steps`."""

    save_strategy: Literal["no", "steps", "epoch"] = "steps"
    """When a checkpoint to resume from is written; the final bridge is always written."""

    save_steps: PositiveInt = 500
    """Updates between two checkpoints with `save_strategy: steps`."""

    save_total_limit: PositiveInt | None = 2
    """Checkpoints to keep; older ones are deleted, the best one never. null keeps all."""

    load_best_model_at_end: bool = False
    """Whether the final bridge is the checkpoint with the best validation, and not the last."""

    metric_for_best_model: str | None = None
    """What the best checkpoint is chosen by; null for the validation loss. Several validation sets have the names
    `eval_NAME_loss`."""

    greater_is_better: bool | None = None
    """Whether a greater value of that metric is better; null for whatever its name says (a loss: smaller)."""

    dataloader_num_workers: NonNegativeInt = 0
    """Processes that prepare batches beside the training."""

    report_to: Literal["none", "tensorboard", "wandb", "trackio", "mlflow"] = "tensorboard"
    """Tracker that receives the log."""

    run_name: str | None = None
    """The run's name in the tracker."""

    use_cpu: bool = False
    """Train on the CPU even where there is a GPU."""

    deepspeed: str | None = None
    """DeepSpeed configuration, a JSON file; null for none."""

    fsdp: bool = False
    """Shard the models over the processes with FSDP2. It needs GPUs."""

    fsdp_config: str | None = None
    """Settings of FSDP, a JSON file; null for the defaults."""

    ddp_timeout: PositiveInt = 1800
    """Seconds that a process waits for the others."""

    reading_score_steps: NonNegativeInt = 50
    """Updates between two reading scores; 0 for none."""

    reading_score_rows: int | None = Field(default=None, ge=2)
    """Rows that the reading score is taken on: of the first validation set, or, without one, a twentieth of the
    training rows at most, which are then kept out of the training. null for two and a half updates' rows of one
    process, 16 to 128: a score then takes about as long as so many updates."""

    reading_score_patience: PositiveInt | None = None
    """Reading scores in a row without a new best after which the run ends; the final bridge is then the best one's,
    whether it ended early or not, and the start's where training only cost reading. null for the last step's bridge. It
    needs neither validation data nor another language than English."""

    plateau_score: NonNegativeFloat = 0.05
    """A reading score below this, in nats a target token, or below two standard errors, counts as not reading."""

    plateau_patience: PositiveInt = 10
    """Reading scores in a row below `plateau_score` before the run warns."""

    stop_on_plateau: bool = False
    """Whether the run stops where it would warn."""

    push_to_hub: bool = False
    """Whether the final folder is uploaded to the Hugging Face hub. It needs a login."""

    hub_model_id: str | None = None
    """Where to: OWNER/NAME; null for the name of the run's folder, `+` written as `-`, under the own account."""

    hub_private_repo: bool | None = None
    """Whether a new repository is private; null for the account's default."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fsdp and self.deepspeed is not None:
            raise LangBridgeError("fsdp: is on, and so is deepspeed; expected one of the two")
        if self.positions_per_pass is not None and self.deepspeed is not None:
            raise LangBridgeError(
                "positions_per_pass: is set, and so is deepspeed, which counts passes as steps; set it to null and "
                "take a smaller per_device_train_batch_size with more gradient_accumulation_steps"
            )
        if self.load_best_model_at_end and self.save_strategy != self.eval_strategy:
            raise LangBridgeError(
                f"load_best_model_at_end: needs eval_strategy and save_strategy to be the same, so that the best step "
                f"has a checkpoint; got {self.eval_strategy!r} and {self.save_strategy!r}"
            )
        if self.reading_score_patience is not None:
            if not self.reading_score_steps:
                raise LangBridgeError("reading_score_patience: needs reading scores; set reading_score_steps")
            for key in ("load_best_model_at_end", "metric_for_best_model", "fsdp", "deepspeed"):
                if getattr(self, key):
                    raise LangBridgeError(f"reading_score_patience: is set, and so is {key}; expected one of the two")
        return self

    @property
    def reading_rows(self) -> int:
        """`reading_score_rows`, chosen where it is null. It depends on nothing that a resumed run may change."""
        if self.reading_score_rows is not None:
            return self.reading_score_rows
        return min(128, max(16, 5 * self.per_device_train_batch_size * self.gradient_accumulation_steps // 2))

    @property
    def files(self) -> dict[str, str | None]:
        """The files of settings that it names, by key."""
        return {"train.deepspeed": self.deepspeed, "train.fsdp_config": self.fsdp_config}

    @property
    def sharding(self) -> Sharding:
        """How weights and states are cut up: by `fsdp`, or as the DeepSpeed configuration says, which is read here.
        Raises `LangBridgeError` for a file that is none."""
        if self.fsdp:
            return "fsdp"
        if self.deepspeed is None:
            return "none"
        try:
            settings = json.loads(Path(self.deepspeed).read_text(encoding="utf-8"))
            stage = int(settings.get("zero_optimization", {}).get("stage", 0))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise LangBridgeError(
                f"train.deepspeed: {self.deepspeed} is not a DeepSpeed configuration: {error}"
            ) from None
        return cast(Sharding, f"zero{stage}") if stage in (2, 3) else "none"

    def arguments(self) -> dict[str, Any]:
        """The settings that `transformers.TrainingArguments` takes, by its names; those left to it are left out."""
        settings = self.model_dump(exclude=set(OURS))
        # `activation_checkpointing` is younger than our oldest transformers.
        optional = ("learning_rate", "activation_checkpointing", "fsdp", "fsdp_config", "deepspeed")
        if self.max_steps == 0:  # the loop never runs: nothing to shard, and a number that transformers does not doubt
            settings |= {"max_steps": 1, "fsdp": False, "fsdp_config": None, "deepspeed": None, "bf16": False}
        return {name: value for name, value in settings.items() if value or name not in optional}
