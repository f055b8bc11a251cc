"""Batched generation gives each prompt the answer it has alone, in the order of the prompts."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langbridge.errors import LangBridgeError
from langbridge.evaluate.generate import generate_texts_lm

PROMPTS = ["b", "a b c d e f g", "c d", "h h h h", "a", "g f e d c"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<s>", "</s>", "<unk>", *"abcdefgh"]
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def language_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.5,  # wide, so that answers depend on the prompt
    )
    return LlamaForCausalLM(config)


def test_batches_answer_as_single_prompts_do_and_in_order(language_model, tokenizer) -> None:
    assert tokenizer.pad_token is None, "a tokenizer without padding is the harder case"
    alone = [generate_texts_lm(language_model, tokenizer, [p], max_new_tokens=8)[0] for p in PROMPTS]
    assert len(set(alone)) > 2, f"the answers are too alike to tell an order: {alone}"
    seen: list[int] = []
    batched = generate_texts_lm(
        language_model, tokenizer, PROMPTS, batch_size=4, max_new_tokens=8, progress=seen.append
    )
    assert batched == alone
    assert seen == [4, 2]


def test_only_new_tokens_come_back(language_model, tokenizer) -> None:
    ids = torch.tensor([tokenizer("a b c")["input_ids"]])
    assert ids[0, 0] == 0, "the tokenizer's own BOS is in front"
    expected = []
    for _ in range(5):
        following = language_model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
        if following.item() == 1:
            break
        ids = torch.cat([ids, following], dim=1)
        expected.append(following.item())
    (answer,) = generate_texts_lm(language_model, tokenizer, ["a b c"], max_new_tokens=5)
    assert answer == tokenizer.decode(expected, skip_special_tokens=True).strip()


def test_no_prompts_no_answers_and_no_empty_batches(language_model, tokenizer) -> None:
    assert generate_texts_lm(language_model, tokenizer, []) == []
    with pytest.raises(LangBridgeError, match="batch_size: expected at least 1, got 0"):
        generate_texts_lm(language_model, tokenizer, ["a"], batch_size=0)
