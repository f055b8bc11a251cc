"""What our golden values are computed from: tiny bases, checkpoints of bridges, fixed texts. See golden/README.md."""

import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.data import LabelledCollator, TextExample, UnlabelledCollator
from langbridge.data.examples import Example
from langbridge.files import write_jsonl
from langbridge.model import ConnectorSettings
from langbridge.train import Recipe, train

HERE = Path(__file__).parent / "golden" / "ours"
BRIDGES = ("linear", "mlp", "resampler", "linear-trained-encoder")
TEXTS = ["How many?", "Tom has 28 apples\nand buys 9 more."]
TARGETS = ["37", "The answer is 37."]
PREFIXES = ["", "So "]
TEMPLATE = "Q: {prompt}\nA:"


def filled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights out of their names alone: NumPy keeps the stream of its legacy generator for good."""
    return {
        name: torch.ones_like(tensor)
        if "norm" in name
        else torch.from_numpy(
            np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape)) * 0.3
        ).to(tensor.dtype)
        for name, tensor in sorted(state.items())
    }


def make_bases(folders: tuple[Path, Path], out: Path) -> tuple[Path, Path]:
    """The suite's tiny bases with filled weights, and no dropout."""
    bases = out / "encoder", out / "language_model"
    for source, folder in zip(folders, bases, strict=True):
        shutil.copytree(source, folder)
        weights = folder / "model.safetensors"
        save_file(filled(load_file(weights)), weights, metadata={"format": "pt"})
    config = json.loads((bases[0] / "config.json").read_text())
    (bases[0] / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.0}))
    return bases


def make_bridges(bases: tuple[Path, Path], out: Path) -> None:
    """Write `bridges/`: checkpoints as `save_pretrained` writes them, with no paths of ours, and of the weights only
    names and shapes."""
    for name in BRIDGES:
        model = LangBridgeModel.from_bases(*bases, connector=ConnectorSettings.read(name.split("-")[0], num_latents=4))
        if name.endswith("encoder"):
            model.set_training_regime(freeze_encoder=False)
        model.save_pretrained(out / name)
        config = json.loads((out / name / "config.json").read_text())
        for role in ("encoder", "language_model"):
            config[f"{role}_base"] = {**config[f"{role}_base"], "id": role, "relative": None}
        shapes = {key: list(tensor.shape) for key, tensor in load_file(out / name / "model.safetensors").items()}
        for file, content in (("config.json", config), ("shapes.json", shapes)):
            (HERE / name).mkdir(parents=True, exist_ok=True)
            (HERE / name / file).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def load_bridge(name: str, bases: tuple[Path, Path], out: Path) -> LangBridgeModel:
    folder = shutil.copytree(HERE / name, out / name)
    shapes = json.loads((folder / "shapes.json").read_text())
    state = {key: torch.empty(shape) for key, shape in shapes.items()}
    save_file(filled(state), folder / "model.safetensors", metadata={"format": "pt"})
    trained = name.endswith("encoder")  # which is in the checkpoint itself
    given = {} if trained else {"encoder": bases[0]}
    return LangBridgeModel.from_pretrained(folder, language_model=bases[1], **given)


def values(name: str, bases: tuple[Path, Path], out: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every value of one bridge, by its name."""
    model = load_bridge(name, bases, out)
    for template_in in ("encoder", "lm"):
        processor = LangBridgeProcessor.from_bases(
            *bases, config=model.config, template=TEMPLATE, template_in=template_in
        )
        for layout, given in {
            "prompt": {},
            "lm_prefix": {"lm_prefix": PREFIXES},
            "targets": {"targets": TARGETS},
            "targets and lm_prefix": {"targets": TARGETS, "lm_prefix": PREFIXES},
        }.items():
            batch = processor(TEXTS, return_tensors="pt", **given)
            key = f"{name}/{template_in}/{layout}"
            yield from ((f"{key}/{field}", tensor) for field, tensor in batch.items())
            with torch.no_grad():
                output = model(**batch)
            if "labels" in batch:
                yield f"{key}/loss", output.loss
                continue
            yield f"{key}/logits", output.logits[:, -1].clone()
            yield f"{key}/generated", model.generate(**batch, max_new_tokens=8, do_sample=False)[:, -8:].clone()
        with torch.no_grad():
            soft, mask = model.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])
        yield f"{name}/{template_in}/soft_prompts", soft * mask.unsqueeze(-1)
        lengths = {"max_encoder_length": 60, "max_length": 90}
        labelled = LabelledCollator(processor, **lengths)
        unlabelled = UnlabelledCollator(processor, seed=5, min_encoder_length=6, min_lm_length=10, **lengths)
        pairs = [Example(text, target) for text, target in zip(TEXTS, TARGETS, strict=True)]
        long = [TextExample(f"{text} " * 4) for text in TEXTS]
        for regime, batch in (("labelled", labelled(pairs)), ("unlabelled", unlabelled(long))):
            key = f"{name}/{template_in}/{regime}"
            yield from ((f"{key}/{field}", batch[field]) for field in ("encoder_input_ids", "input_ids", "labels"))
            with torch.no_grad():
                yield f"{key}/loss", model(**batch).loss


def losses(regime: str, bases: tuple[Path, Path], out: Path) -> list[float]:
    """The loss of each of 20 steps of a run."""
    rows = [{"query": f"say {'ab'[n % 2] * (n % 7 + 1)}", "response": "ab"[n % 2] * 3} for n in range(48)]
    if regime == "unlabelled":
        rows = [{"text": f"{'ab' * (n % 7 + 6)} number {n} has {n * 7 % 10} of them"} for n in range(48)]
    path = out / f"{regime}.jsonl"
    write_jsonl(path, rows)
    recipe = {
        "encoder": str(bases[0]),
        "language_model": str(bases[1]),
        "regime": regime,
        "data": {"path": str(path)},
        "max_encoder_length": 24,
        "min_encoder_length": 4,
        "min_lm_length": 8,
        "max_length": 48,
        "ridge": {"texts": 20},
        "train": {
            "learning_rate": 1e-2,
            "encoder_learning_rate": 1e-3,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "max_steps": 20,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "reading_score_steps": 0,
            "use_cpu": True,
        },
    }
    (out / f"{regime}.yaml").write_text(json.dumps(recipe))
    final = train(Recipe.load(out / f"{regime}.yaml"), out / f"run-{regime}", progress=False)
    history = json.loads((final / "training_log.json").read_text())["history"]
    return [entry["loss"] for entry in history if "loss" in entry]
