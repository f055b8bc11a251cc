"""Checkpoints of a run: what was trained, and all that going on takes.

`DIR/checkpoint-N` holds the bridge as `save_pretrained` writes it (connector, end vector, new rows, the encoder where
it is trained), what parts lay beside it (adapters), the processor, the state of optimiser, schedule and random numbers,
the log, the recipe and `run.json`. The file `complete` is written last, when the system has put the others on the disk:
so a run that is killed, or a disk that is full, leaves the earlier checkpoints what they were, and what is not complete
is never gone on from. The data's position is the step itself, of which batches are a function; a stream's is in
`stream.json`.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.model import LangBridgeModel
from langbridge.model.intact import check_file
from langbridge.model.loading import read_weights
from langbridge.model.saving import save_checkpoint
from langbridge.train.parts import Part
from langbridge.train.sharding import gathered_state
from langbridge.train.streaming import StreamLoader

STATE = "trainer_state.json"
RECIPE, RUN = "recipe.yaml", "run.json"
STREAM = "stream.json"
COMPLETE = "complete"
"""The file that is written last."""


def last_checkpoint(folder: Path) -> Path | None:
    """The latest whole checkpoint of a run's folder, None where there is none."""
    return max(filter(is_whole, _checkpoints(folder)), key=_number, default=None)


def is_whole(checkpoint: Path) -> bool:
    """Whether all of a checkpoint was written: it says so, or, from before it did, has what going on reads."""
    if (checkpoint / COMPLETE).is_file():
        return True
    try:
        step_of(checkpoint)
        for file in checkpoint.glob("*.safetensors"):
            check_file(file)
        run = checkpoint / RUN
        processes = json.loads(run.read_text(encoding="utf-8"))["processes"] if run.is_file() else 1
    except (OSError, ValueError, KeyError, LangBridgeError):
        return False
    return len(list(checkpoint.glob("rng_state*.pth"))) >= processes


def step_of(checkpoint: Path) -> int:
    """The updates that a checkpoint has seen."""
    return int(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"])


def load_checkpoint(model: Any, parts: Sequence[Part], checkpoint: Path) -> None:
    """Take all that was trained out of a checkpoint, in place. Raises `LangBridgeError` where it is another model's, or
    damaged."""
    if isinstance(model, LangBridgeModel):
        model.load_trained(read_weights(checkpoint), str(checkpoint))
    for part in parts:
        part.load(checkpoint)


class Checkpoints(Trainer):
    """The part of `BridgeTrainer` that writes and reads checkpoints.

    parts: what the model is made of. records: texts by file name that are laid beside every checkpoint, such as the
    recipe. kept: checkpoints to keep, None for all. stream: the loader of streamed data.
    """

    parts: list[Part]
    records: Mapping[str, str]
    kept: int | None
    stream: StreamLoader | None = None
    keeps_best: bool = False
    """Whether the run ends with the best checkpoint by its own choice, besides `load_best_model_at_end`."""
    writing: Path | None = None
    """The checkpoint that is being written."""

    @property
    def kept_step(self) -> int:
        """The updates that what the run leaves has seen."""
        best = self.state.best_global_step
        return best if self.ends_with_best and best is not None else self.state.global_step

    @property
    def ends_with_best(self) -> bool:
        """Whether the best checkpoint is what the run leaves, and not the last."""
        return self.args.load_best_model_at_end or self.keeps_best

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        folder = Path(output_dir or self.args.output_dir)
        if _internal_call and output_dir is not None:  # the first thing that is written of a checkpoint
            self.writing = folder
            (folder / COMPLETE).unlink(missing_ok=True)
        model: Any = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        state = gathered_state(model, keep=self.args.should_save) if sharded else None
        if self.args.should_save:
            if isinstance(model, LangBridgeModel):  # its own method would refuse adapters, which their part keeps
                save_checkpoint(model, folder, state)
            else:
                model.save_pretrained(folder, state_dict=state)
            for part in self.parts:
                part.save(folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
            for file, text in self.records.items():
                write_atomically(folder / file, text)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def save_start(self) -> None:
        """Write a checkpoint before the first step, from `on_train_begin`."""
        self._save_checkpoint(self.model, None)
        self.callback_handler.on_save(self.args, self.state, self.control)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`. `resume_from_checkpoint=True` takes the last whole checkpoint. Raises `LangBridgeError`
        for a checkpoint that cannot be written."""
        if resume_from_checkpoint is True:
            found = last_checkpoint(Path(self.args.output_dir))
            if found is None:
                raise LangBridgeError(f"resume_from_checkpoint: no whole checkpoint is in {self.args.output_dir}")
            resume_from_checkpoint = str(found)
        hooks = []
        if isinstance(self.model, LangBridgeModel):
            if resume_from_checkpoint:
                load_checkpoint(self.model, self.parts, Path(resume_from_checkpoint))
            # `Trainer` loads the same weights again, and would tell of every frozen one that it misses.
            hooks = [self.model.register_load_state_dict_post_hook(lambda _, keys: keys.missing_keys.clear())]
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: torch's own of writing
            if self.writing is None:
                raise
            if self.args.should_save:
                shutil.rmtree(self.writing, ignore_errors=True)
            kept = last_checkpoint(Path(self.args.output_dir))
            raise LangBridgeError(
                f"step {self.state.global_step}: the checkpoint could not be written in {self.args.output_dir}: "
                f"{error}. "
                + (f"{kept} is whole; make room and go on with --resume" if kept else "No earlier checkpoint is there")
            ) from error
        finally:
            for hook in hooks:
                hook.remove()


class CheckpointKeeper(TrainerCallback):
    """Completes every checkpoint, and deletes those that are not kept; at the end brings back the best one's parts."""

    def __init__(self, trainer: Checkpoints) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # A run's folder may have been moved since: its best checkpoint is beside the others.
        if state.best_global_step is not None:
            state.best_model_checkpoint = f"{args.output_dir}/checkpoint-{state.best_global_step}"

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        trainer, checkpoint = self.trainer, self.trainer.writing
        assert checkpoint is not None, "save_model began it"
        if args.should_save and trainer.stream is not None:
            write_atomically(checkpoint / STREAM, json.dumps(trainer.stream.state_dict()))
        trainer.accelerator.wait_for_everyone()  # every process lays its own random state beside the rest
        if args.should_save:
            _to_disk(checkpoint)
            write_atomically(checkpoint / COMPLETE, "All files of this checkpoint were written before this one.\n")
            for other in _checkpoints(checkpoint.parent):
                if not is_whole(other):
                    shutil.rmtree(other, ignore_errors=True)
            rotate_checkpoints(str(checkpoint.parent), trainer.kept, state.best_model_checkpoint)
        trainer.writing = None

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        trainer, best = self.trainer, state.best_model_checkpoint
        # `Trainer` has loaded the model's own weights, and knows nothing of what parts laid beside them, nor of a best
        # that the reading score chose.
        if trainer.ends_with_best and best and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            load_checkpoint(trainer.model, trainer.parts, Path(best))


def _checkpoints(folder: Path) -> list[Path]:
    """All that are begun, in no order."""
    return [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name.partition("-")[2].isdigit()]


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _to_disk(folder: Path) -> None:
    """Have the system write a folder's files, so that the one that says so never outruns them."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
