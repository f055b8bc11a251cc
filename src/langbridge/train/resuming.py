"""Whether a run may go on from a checkpoint: only with what would have given the same run.

A run that goes on with another learning rate or other rows has a curve that no recipe describes, so it is refused with
the names of what differs. What changes nothing that was learned so far (more steps, other logging) is let through.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langbridge.data import RowTable
from langbridge.data.stream import RowStream
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, check_same
from langbridge.train.checkpointing import RECIPE, RUN
from langbridge.train.objectives import objective_of
from langbridge.train.parts.adapters import CONFIG, UNMERGED_CONFIG
from langbridge.train.recipe import Recipe

_HARMLESS = """
    logging_steps eval_strategy eval_steps save_strategy save_steps save_total_limit load_best_model_at_end
    metric_for_best_model greater_is_better dataloader_num_workers report_to run_name use_cpu
    tf32 torch_compile activation_checkpointing positions_per_pass ddp_timeout reading_score_steps reading_score_rows
    reading_score_patience plateau_score plateau_patience stop_on_plateau push_to_hub hub_model_id hub_private_repo
"""
HARMLESS = frozenset(["data.on_bad_row", *(f"train.{name}" for name in _HARMLESS.split())])
"""Keys that may differ, those of validation data and of places apart. A bad row that is skipped now has ended the run
before, and the rows up to it are the same."""

_EVAL_BATCH = "train.per_device_eval_batch_size"

_OF_LENGTH = {"train.num_train_epochs", "train.max_steps"}


def check_same_run(checkpoint: Path, recipe: Recipe, run: dict[str, Any], model: Any) -> dict[str, Any]:
    """What `run.json` of the checkpoint holds. Raises `LangBridgeError` unless `recipe` goes on with what the
    checkpoint was written by. `run` is what `run.json` will hold now."""
    before: dict[str, Any] = json.loads((checkpoint / RUN).read_text(encoding="utf-8"))
    wrong = list(changed(Recipe.load(checkpoint / RECIPE), recipe))
    if before["processes"] != run["processes"]:
        wrong.append(f"processes: {before['processes']} in the checkpoint, {run['processes']} now")
    # Earlier checkpoints recorded less: what is not in both cannot be compared.
    said, says = before.get("files", {}), run["files"]
    wrong += [f"{key}: the file says something else now" for key in said.keys() & says.keys() if said[key] != says[key]]
    if any(before["data"][key] != run["data"][key] for key in before["data"].keys() & run["data"].keys()):
        rows = [f"{data['rows']} rows" if data["rows"] else "a stream" for data in (before["data"], run["data"])]
        other = "of other files" if rows[1] == "a stream" else "with other texts"
        wrong.append(f"the training rows: {rows[0]} in the checkpoint, {rows[1]} {other} now")
    if wrong:
        raise LangBridgeError(
            f"{checkpoint}: cannot go on with another run: {'; '.join(wrong)}. Take the change back, or begin a new "
            "run in another folder with --out"
        )
    # The bases must be those that the checkpoint was trained on, wherever they are now: as they were loaded, since by
    # now the encoder's table may have grown by its new rows.
    if isinstance(model, LangBridgeModel):
        file = next(checkpoint / name for name in (CONFIG, UNMERGED_CONFIG) if (checkpoint / name).is_file())
        config = json.loads(file.read_text(encoding="utf-8"))
        then = {role: config[f"{role}_base"]["fingerprint"] for role in (ENCODER, LANGUAGE_MODEL)}
        now = {role: getattr(model.config, f"{role}_base")["fingerprint"] for role in then}
    else:
        then = {LANGUAGE_MODEL: before[LANGUAGE_MODEL]} if LANGUAGE_MODEL in before else {}
        now = run
    for role in then:
        check_same(role, then[role], now[role], getattr(recipe, role), "the checkpoint's")
    return before


def check_finished(folder: Path, recipe: Recipe, what: str) -> None:
    """Raise `LangBridgeError` where the run whose recipe is in `folder`, and of which nothing is left to train, was
    another than `recipe` asks for. what: the run, for the message."""
    wrong = list(changed(Recipe.load(folder / RECIPE), recipe, finished=True))
    if wrong:
        raise LangBridgeError(
            f"{folder}: {what} is finished, and was another: {'; '.join(wrong)}. Take the change back, or begin a new "
            "run in another folder with --out"
        )


def data_fingerprint(rows: RowTable | RowStream) -> dict[str, Any]:
    """What tells that a run would go on with other training rows, wherever they lie.

    Of a table the number of rows, a hash of their lengths (which rows were chosen, in which order) and one of all
    texts; of a stream, which is not read beforehand, a hash of its files' names and sizes and one of pieces of them.
    """
    if isinstance(rows, RowStream):
        return {"rows": None, "files": _hash(json.dumps(rows.places).encode()), "sampled": rows.sampled()[:16]}
    return {"rows": len(rows), "lengths": _hash(array("q", rows.lengths).tobytes()), "content": rows.content}


def named_files(recipe: Recipe) -> dict[str, Any]:
    """What the files say that the recipe names, by their keys."""
    found: dict[str, Any] = {}
    for key, file in recipe.train.files.items():
        try:
            found |= {} if file is None else {key: json.loads(Path(file).read_text(encoding="utf-8"))}
        except ValueError as error:
            raise LangBridgeError(f"{key}: {file} is no JSON file: {error}") from None
    return found


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def changed(old: Recipe, new: Recipe, *, finished: bool = False) -> Iterator[str]:
    """What differs between two recipes of one run, and may not. finished: nothing of it will be trained again, so that
    its length may not differ either."""
    before, now = dict(_flat(old.to_dict())), dict(_flat(new.to_dict()))
    for key in dict.fromkeys([*before, *now]):
        was, is_now = before.get(key), now.get(key)
        if was == is_now or key in HARMLESS or key.startswith("data.validation"):
            continue
        if key == _EVAL_BATCH and not _draws_by_batch(new):
            continue
        if key == "init" and old.begins_with is not None and new.begins_with is not None:
            continue  # what it began with is in the checkpoint
        if key in ("encoder", "language_model") or key.split(".")[-1] in ("path", "targets"):
            continue  # a place may move: models and rows are held to their fingerprints instead
        if key in new.train.files and was is not None and is_now is not None:
            continue  # as may a file's, which is held to what it says
        if key.startswith("data.") and key.endswith(".language"):
            continue  # what the card says of the same rows
        if key in _OF_LENGTH and not finished and _length_is_free(new):
            continue
        yield f"{key}: {was!r} in the checkpoint, {is_now!r} now"


def _draws_by_batch(recipe: Recipe) -> bool:
    """Whether held-out rows are `unlabelled` texts, whose losses are comparable only in batches of one size."""
    objective = objective_of(recipe)
    return objective.bridged and "unlabelled" in (objective.kind, *recipe.data.validation_sources(objective.kind))


def _length_is_free(recipe: Recipe) -> bool:
    """Whether the learning rate of a step does not depend on how many follow."""
    by_share = 0 < recipe.train.warmup_steps < 1
    return recipe.train.lr_scheduler_type in ("constant", "constant_with_warmup", "inverse_sqrt") and not by_share


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{index}]")
    else:
        yield path, value
