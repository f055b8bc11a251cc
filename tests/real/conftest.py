"""Real pretrained models, where they are at hand: a multilingual encoder and two small language models.

`make test-real REAL=FOLDER` runs this folder's tests; FOLDER holds one model folder for each name below. They are left
out of the default suite, which needs nothing but the repository. Two cores and 8 GB of memory do.
"""

import os
from pathlib import Path

import pytest

ENCODER = "multilingual-e5-small"
LANGUAGE_MODEL = "smollm2-135m-instruct"
LARGER_LANGUAGE_MODEL = "qwen2.5-coder-0.5b-instruct"

TEMPLATE = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
"""What both language models were tuned on, with `template_in: lm`."""

FITTED = 100
"""English problems that the closed form is fitted on: enough for soft prompts that differ, in seconds."""


@pytest.fixture(scope="session", autouse=True)
def real_folder() -> Path:
    named = os.environ.get("LANGBRIDGE_REAL")
    if not named:
        pytest.skip("real models: LANGBRIDGE_REAL does not name a folder that holds them (make test-real REAL=FOLDER)")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"LANGBRIDGE_REAL: there is no folder at {folder}")
    return folder


def model_folder(real_folder: Path, name: str) -> Path:
    if not (real_folder / name / "config.json").is_file():
        pytest.skip(f"real models: {real_folder} holds no {name}")
    return real_folder / name


@pytest.fixture(scope="session")
def encoder_folder(real_folder: Path) -> Path:
    return model_folder(real_folder, ENCODER)


@pytest.fixture(scope="session")
def language_model_folder(real_folder: Path) -> Path:
    return model_folder(real_folder, LANGUAGE_MODEL)


@pytest.fixture(scope="session")
def larger_language_model_folder(real_folder: Path) -> Path:
    return model_folder(real_folder, LARGER_LANGUAGE_MODEL)


@pytest.fixture(scope="session")
def bridge_folder(encoder_folder: Path, language_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bridge between the encoder and the smaller language model with the closed-form start, saved."""
    import torch

    from langbridge.miniature.dataset import training_rows
    from langbridge.model import build_bridge
    from langbridge.train.ridge import ridge_start

    torch.manual_seed(0)
    model, processor = build_bridge(
        encoder_folder, language_model_folder, template=TEMPLATE, template_in="lm", dtype=torch.float32
    )
    prompts = [row["query"] for row in training_rows(FITTED)]
    assert ridge_start(model, processor, prompts, penalty=1e-4, balance=0.5) is not None
    folder = tmp_path_factory.mktemp("real") / "bridge"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
