"""Tiny base folders with real tokenizers, built once a session."""

from pathlib import Path

import pytest
import torch
import transformers as hf
from tiny import encoder_config, language_model_config
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "Tom has 3 apples and buys 12 more.",
    "The answer is 15.",
    "She sells {4} of them; how many are left?",
    "def f(x):\n\treturn x + 1",
] * 4


def encoder_tokenizer() -> hf.PreTrainedTokenizerFast:
    """As mT5's: all whitespace becomes one space, and </s> closes a text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(hf_regex(), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=88, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def hf_regex():
    from tokenizers import Regex

    return Regex(r"\s+")


def language_model_tokenizer() -> hf.PreTrainedTokenizerFast:
    """As Llama's: <s> (before every text), </s>, <unk>, and no pad but EOS."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=90, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of an mT5 encoder and a Llama, with tokenizers, as a user has them. The encoder's table has
    rows for no whitespace tokens."""
    torch.manual_seed(3)
    root = tmp_path_factory.mktemp("bases")
    config = encoder_config("mt5")
    tokenizer = encoder_tokenizer()
    config.vocab_size = len(tokenizer) + 2
    hf.MT5ForConditionalGeneration(config).save_pretrained(root / "encoder")
    tokenizer.save_pretrained(root / "encoder")
    hf.LlamaForCausalLM(language_model_config("llama")).save_pretrained(root / "lm")
    language_model_tokenizer().save_pretrained(root / "lm")
    return root / "encoder", root / "lm"
