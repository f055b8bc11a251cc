"""Tokenizers in the manner of well-known ones, trained here in a moment; and a cache that is nobody's."""

from pathlib import Path
from typing import Any

import pytest

SENTENCES = (
    "The cat sat on the mat, and the dog on the log.",
    "How many apples has Tom? He has 3 apples and 4 pears.",
    "def add(a, b):\n    return a + b\n",
    "Почему небо голубое? ไม่ทราบ. 空はなぜ青い。 తెలుగు বাংলা",
)
LANGUAGE_MODELS = ("llama", "mistral", "qwen", "opt")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared tables go where they go by default, but not into the cache of who runs the tests."""
    import datasets

    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


def make_tokenizer(kind: str) -> Any:
    """An untrained one of this kind is of no use, so it learns the sentences above."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if kind == "byt5":
        from transformers import ByT5Tokenizer

        return ByT5Tokenizer()  # plain Python: bytes, and no offsets
    corpus = list(SENTENCES) * 5
    if kind == "mt5":
        # SentencePiece unigram over NFKC: white space other than single spaces is lost, as in mT5.
        raw = Tokenizer(models.Unigram())
        raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
        special = ["<pad>", "</s>", "<unk>"]
        raw.train_from_iterator(
            corpus,
            trainers.UnigramTrainer(vocab_size=260, special_tokens=special, unk_token="<unk>", show_progress=False),
        )
        raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    if kind in ("llama", "mistral"):
        # BPE with byte fallback and no pad token; Llama prepends its space by a normalizer, Mistral by Metaspace.
        special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        if kind == "llama":
            raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        raw.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        raw.train_from_iterator(
            corpus, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
        )
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    # Byte-level BPE. Qwen has no BOS and pads with its EOS; OPT has one token for BOS and EOS, and a pad of its own.
    special = ["<|endoftext|>"] if kind == "qwen" else ["<s>", "<pad>", "</s>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if kind == "qwen":
        return PreTrainedTokenizerFast(
            tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>", bos_token=None, unk_token=None
        )
    assert kind == "opt"
    raw.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="</s>"
    )


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Any]:
    """One of every kind."""
    return {kind: make_tokenizer(kind) for kind in ("mt5", "byt5", *LANGUAGE_MODELS)}


@pytest.fixture(scope="session", params=LANGUAGE_MODELS)
def language_model_tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Any]) -> Any:
    """A language model's, of one kind after the other."""
    return tokenizers[request.param]


@pytest.fixture(scope="session")
def processor(language_model_tokenizer: Any, tokenizers: dict[str, Any]) -> Any:
    """A bridge's processor with each language model's tokenizer in turn."""
    import copy

    from langbridge.model import LangBridgeProcessor
    from langbridge.model.tokenizers import whitespace_ids

    encoder = copy.deepcopy(tokenizers["mt5"])
    new = whitespace_ids(encoder)
    return LangBridgeProcessor(language_model_tokenizer, encoder, template="Q: {prompt}\nA:", new_token_ids=new)
