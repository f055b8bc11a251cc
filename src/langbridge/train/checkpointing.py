"""Checkpoints of a run: what was trained, and all that going on takes, each written whole or not at all.

`DIR/checkpoint-N` holds the bridge as `save_pretrained` writes it (connector, end vector, new rows, the encoder where
it is trained), adapters where there are some, the processor, the state of optimiser, schedule and random numbers, the
log, the recipe and `run.json`. It is written in `DIR/.saving` and renamed, so a run that is killed, or a disk that is
full, leaves the earlier checkpoints as they were. The data's position is the step itself, of which
batches are a function; a stream's is in `stream.json`.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from langbridge.data import write_atomically
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.model.loading import read_weights
from langbridge.train.streaming import StreamLoader

STATE = "trainer_state.json"
RECIPE, RUN = "recipe.yaml", "run.json"
CONFIG, UNMERGED_CONFIG = "config.json", "unmerged_config.json"
STREAM = "stream.json"
ADAPTER = "adapter"
"""Folder inside a checkpoint with the language model's LoRA adapters, as PEFT writes them."""


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint of a run's folder, None where there is none."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / STATE).is_file()
    ]
    return max(found)[1] if found else None


def step_of(checkpoint: Path) -> int:
    """The updates that a checkpoint has seen."""
    return int(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"])


class Checkpoints(Trainer):
    """The part of `BridgeTrainer` that writes and reads checkpoints.

    records: texts by file name that are laid beside every checkpoint, such as the recipe.
    adapter: the PEFT model around the bridge's language model, where that has adapters.
    stream: the loader of streamed data, whose position is in `stream.json`.
    """

    records: Mapping[str, str]
    adapter: Any
    stream: StreamLoader | None = None
    _draft: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        # While a checkpoint is written, the trainer believes that its runs are in the draft folder.
        return str(self._draft) if self._draft is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        out, name = Path(self.args.output_dir), f"checkpoint-{self.state.global_step}"
        with self._drafting(out / ".saving") as draft:
            super()._save_checkpoint(model, trial)
            if self.stream is not None and self.args.should_save:
                write_atomically(draft / name / STREAM, json.dumps(self.stream.state_dict()))
            self.accelerator.wait_for_everyone()  # every process lays its own random state into the draft
            if self.args.should_save:
                if self.state.best_global_step:
                    best = out / f"checkpoint-{self.state.best_global_step}"
                    self.state.best_model_checkpoint = str(best)
                    self.state.save_to_json(str(draft / name / STATE))
                _to_disk(draft / name)
                shutil.rmtree(out / name, ignore_errors=True)
                os.replace(draft / name, out / name)
        if self.args.should_save:
            best_now = self.state.best_model_checkpoint
            rotate_checkpoints(str(out), self.args.save_total_limit, best_now)

    @contextmanager
    def _drafting(self, draft: Path) -> Iterator[Path]:
        """An empty draft folder for the time of a save; what cannot be written is a clear error."""
        self._draft = draft
        try:
            if self.args.should_save:
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            yield draft
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
                raise  # torch's own error of writing has no class of its own; all others are not about the disk
            kept = last_checkpoint(Path(self.args.output_dir))
            raise LangBridgeError(
                f"step {self.state.global_step}: the checkpoint could not be written in {self.args.output_dir}: "
                f"{error}. "
                + (f"{kept} is whole; make room and go on with --resume" if kept else "No earlier checkpoint is there")
            ) from error
        finally:
            self._draft = None
            if self.args.should_save:
                shutil.rmtree(draft, ignore_errors=True)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        assert self.model is not None
        self.model.save_pretrained(folder, state_dict=state_dict)
        if self.adapter is not None:
            self.adapter.save_pretrained(folder / ADAPTER)
            # Without adapters this bridge would be another one; without its config nothing takes it for a bridge.
            os.replace(folder / CONFIG, folder / UNMERGED_CONFIG)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        for file, text in self.records.items():
            write_atomically(folder / file, text)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not isinstance(self.model, LangBridgeModel) or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_trained(self.model, Path(resume_from_checkpoint))
        if self.adapter is not None:
            self.adapter.load_adapter(resume_from_checkpoint + f"/{ADAPTER}", "default", is_trainable=True)

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(self.state.best_model_checkpoint)


def load_trained(model: LangBridgeModel, folder: Path) -> None:
    """Load what a checkpoint holds into a bridge, in place. Raises `LangBridgeError` where it is another bridge's."""
    model.load_trained(read_weights(folder), str(folder))


def _to_disk(folder: Path) -> None:
    """Have the system write a folder's files, so that a rename never outruns them."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
