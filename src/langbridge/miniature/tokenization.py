"""The parents' tokenizers, learned from raw text: SentencePiece-style BPE with byte fallback, as Llama's.

As in SentencePiece, text is cut at spaces, at changes of script and around runs of digits before pieces are learned.
The encoder's normaliser folds all white space into one space, as mT5's does; the language model's keeps it.
"""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

MARK = "▁"
# Han and kana are one script here, as in SentencePiece: Japanese words mix them.
PIECES = Regex(
    rf"{MARK}?(\p{{N}}+|[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}ー]+|\p{{Latin}}+|\p{{Cyrillic}}+|\p{{Hangul}}+"
    rf"|[\p{{Thai}}\p{{M}}]+|[\p{{Bengali}}\p{{M}}]+|[\p{{Telugu}}\p{{M}}]+|[^{MARK}])"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def language_tag(language: str) -> str:
    """The token that tells the translation decoder its language; no encoder input ever holds one."""
    return f"<2{language}>"


def _train(
    texts: Iterable[str], vocab_size: int, special: list[str], normalizer: normalizers.Normalizer | None
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme="first", split=False),
            pre_tokenizers.Split(PIECES, behavior="isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(BYTES), special_tokens=special, show_progress=False, max_token_length=16
    )
    tokenizer.train_from_iterator(texts, trainer)
    # The trainer would make the byte pieces special tokens, which decoding skips; so they join afterwards.
    learned = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    pieces = [*special, *BYTES, *pieces[len(special) :]]
    tokenizer.model = models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    return tokenizer


def train_encoder_tokenizer(texts: Iterable[str], vocab_size: int, languages: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that ends every text in `</s>`, with the languages' tags as its last tokens."""
    fold = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            # A number is one token, and the same one in languages with spaces and without.
            normalizers.Replace(Regex(r" (?=\d)"), ""),
        ]
    )
    tokenizer = _train(texts, vocab_size, ["<pad>", "</s>", "<unk>"], fold)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    wrapped.add_special_tokens({"additional_special_tokens": [language_tag(name) for name in languages]})
    return wrapped


def train_language_model_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer that begins every text with `<s>`; newlines are pieces of their own."""
    tokenizer = _train(texts, vocab_size, ["<unk>", "<s>", "</s>"], None)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>",
        padding_side="left",
    )  # fmt: skip
