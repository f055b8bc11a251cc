"""The mean of two bridges between the same models, weight by weight.

Training on English draws a connector away from a start that reads other languages as well; part of the way back, it can
keep more of both (Wortsman et al. 2022, *Robust fine-tuning of zero-shot models*, arXiv 2109.01903). Of linear
connectors the soft prompts are averaged thereby. Other kinds can only be averaged where one began as the other.
"""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from langbridge.errors import LangBridgeError
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, check_same, checkpoint_folder, resolve, with_relative
from langbridge.model.configuration import LangBridgeConfig
from langbridge.model.loading import WEIGHTS, read_config, read_weights
from langbridge.model.saving import appearing

_SAME = ("connector", "encoder_config", "text_config", "new_token_ids", "bare_token_ids", "encoder_trained")
"""What of the configuration says which weights there are and what they mean."""

_LEFT_OUT = (".*", WEIGHTS, "*.pt", "*.pth", "trainer_state.json", "stream.json", "complete")
"""The weights, and of a training's checkpoint what only the training needs."""


def average_checkpoints(first: Any, second: Any, out: str | Path, *, share: float = 0.5) -> Path:
    """Write the bridge that is `share` of the second and the rest of the first, for each trained weight.

    first, second: small checkpoints, folders or hub ids; the processor and all other files are the second's. Raises
    `LangBridgeError` where they are not bridges of one make between the same models.
    """
    if not 0 <= share <= 1:
        raise LangBridgeError(f"share: got {share}, expected a number from 0 to 1, the second bridge's part")
    folders, out = [checkpoint_folder(one) for one in (first, second)], Path(out)
    if out.exists():
        raise LangBridgeError(f"{out}: is there already; give another folder with --out")
    for folder in folders:
        if (folder / LANGUAGE_MODEL).exists() or (folder / ENCODER).exists():
            raise LangBridgeError(
                f"{folder}: holds a model of its own ({LANGUAGE_MODEL}/ or {ENCODER}/); only small checkpoints, whose "
                "models were frozen, can be averaged"
            )
    configs = [read_config(folder) for folder in folders]
    _check_alike(folders, configs)
    mine, theirs = map(read_weights, folders)
    if mine.keys() != theirs.keys():
        raise LangBridgeError(
            f"{folders[1]}: has other weights than {folders[0]}: {sorted(mine.keys() ^ theirs.keys())}"
        )
    weights = {
        name: ((1 - share) * mine[name].double() + share * weight.double()).to(weight.dtype)
        for name, weight in theirs.items()
    }
    config = configs[1]
    for role in (ENCODER, LANGUAGE_MODEL):
        record = getattr(config, f"{role}_base")
        source, _ = resolve(role, folders[1], record, None)
        setattr(config, f"{role}_base", with_relative({**(record or {}), "id": str(source)}, out))
    with appearing(out) as draft:
        for item in folders[1].iterdir():
            if not any(fnmatch(item.name, pattern) for pattern in _LEFT_OUT):
                (shutil.copytree if item.is_dir() else shutil.copy2)(item, draft / item.name)
        save_file(weights, draft / WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(draft)
        with (draft / "README.md").open("a", encoding="utf-8") as card:
            card.write(
                f"\nThese weights are an average: {share:g} of `{second}`, which all of the above is about, and "
                f"{1 - share:g} of `{first}`.\n"
            )
    return out


def _of_this_make(config: dict[str, Any]) -> dict[str, Any]:
    """Without where the models were read: their records say which they are."""
    models = {name: {**config[name], "_name_or_path": ""} for name in ("encoder_config", "text_config")}
    return {**config, **models}


def _check_alike(folders: list[Path], configs: list[LangBridgeConfig]) -> None:
    first, second = (_of_this_make(config.to_dict()) for config in configs)
    wrong = [name for name in _SAME if first.get(name) != second.get(name)]
    if wrong:
        raise LangBridgeError(
            f"{folders[0]} and {folders[1]}: differ in {', '.join(wrong)}; expected two bridges of one make between "
            "the same models, such as a start and what was trained from it"
        )
    for role in (ENCODER, LANGUAGE_MODEL):
        bases = [one.get(f"{role}_base") or {} for one in (second, first)]
        now, recorded = (base.get("fingerprint") for base in bases)
        if now and recorded:
            check_same(role, recorded, now, *(str(base.get("id")) for base in bases))
