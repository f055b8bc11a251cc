"""Batched generation gives each prompt the answer it has alone, in the order of the prompts."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.evaluate.generate import generate_texts, generate_texts_lm

PROMPTS = ["b", "What is 12 + 30, please?", "c d", "২৭ రె ท", "a", "Two and two"]


@pytest.fixture(scope="module")
def plain(base_folders: tuple[Path, Path]):
    folder = base_folders[1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None  # as most causal models' tokenizers are: the harder case
    return AutoModelForCausalLM.from_pretrained(folder), tokenizer


@pytest.fixture(scope="module")
def bridge(bridge_folder: Path):
    return LangBridgeModel.from_pretrained(bridge_folder), LangBridgeProcessor.from_pretrained(bridge_folder)


@pytest.mark.parametrize("kind", ["bridge", "plain"])
def test_batches_answer_as_single_prompts_do_and_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    model, reader = request.getfixturevalue(kind)
    answer = generate_texts if kind == "bridge" else generate_texts_lm
    alone = [answer(model, reader, [prompt], max_new_tokens=8)[0] for prompt in PROMPTS]
    assert len(set(alone)) > 2, f"the answers are too alike to tell an order: {alone}"
    seen: list[int] = []
    batched = answer(model, reader, PROMPTS, batch_size=4, max_new_tokens=8, progress=seen.append)
    assert batched == alone
    assert seen == [4, 2]


def test_only_new_tokens_come_back(plain) -> None:
    model, tokenizer = plain
    ids = torch.tensor([tokenizer("a b c")["input_ids"]])
    assert ids[0, 0] == tokenizer.bos_token_id, "the tokenizer's own BOS is in front"
    start = ids.shape[1]
    for _ in range(5):
        following = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, following], dim=1)
        if following.item() == tokenizer.eos_token_id:
            break
    (answer,) = generate_texts_lm(model, tokenizer, ["a b c"], max_new_tokens=5)
    assert answer == tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()


def test_no_prompts_no_answers_and_no_empty_batches(plain) -> None:
    model, tokenizer = plain
    assert generate_texts_lm(model, tokenizer, []) == []
    with pytest.raises(LangBridgeError, match="batch_size: expected at least 1, got 0"):
        generate_texts_lm(model, tokenizer, ["a"], batch_size=0)
