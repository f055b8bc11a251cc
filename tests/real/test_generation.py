"""Every way to generate, through a real encoder and a real language model."""

from pathlib import Path

import pytest
import torch

from langbridge import LangBridgeModel, LangBridgeProcessor

PROMPTS = [
    "Tom has 28 apples. Then Tom buys 9 apples. How many apples does Tom have now?",
    "Tom ana matufaa 28. Kisha Tom ananunua matufaa 9. Tom anapoteza matufaa 5. Tom ana matufaa mangapi sasa?",
    "7 + 5?",
]
NEW = 12


@pytest.fixture(scope="module")
def processor(bridge_folder: Path) -> LangBridgeProcessor:
    return LangBridgeProcessor.from_pretrained(bridge_folder)


@pytest.fixture(scope="module")
def bridge(bridge_folder: Path) -> LangBridgeModel:
    return LangBridgeModel.from_pretrained(bridge_folder, dtype=torch.float32)


def test_a_row_of_a_padded_batch_answers_as_alone(bridge, processor) -> None:
    inputs = processor(PROMPTS)
    together = bridge.generate(**inputs, max_new_tokens=NEW, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    for row, prompt in enumerate(PROMPTS):
        single = processor(prompt)
        alone = bridge.generate(**single, max_new_tokens=NEW, do_sample=False)[0, single["input_ids"].shape[1] :]
        assert together[row, : len(alone)].tolist() == alone.tolist()
