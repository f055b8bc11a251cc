"""What a bridge needs of its two tokenizers: loading, whitespace, and a placeholder id that no text contains."""

from pathlib import Path
from typing import Any

from tokenizers import Regex, pre_tokenizers
from transformers import AddedToken, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from langbridge.errors import LangBridgeError
from langbridge.model.intact import check_tokenizer
from langbridge.model.language_marks import marks_of

WHITESPACE = ("\t", "\n", "\r", "\x0b", "\x0c", "  ", "   ", "    ")
"""The whitespace that code and templates need and that mT5's tokenizer drops (LangBridge, appendix D.1)."""

# Texts of tokens that stand for bytes which UTF-8 never contains, as sentencepiece and byte-level BPE write
# them: no text tokenises to them.
_IMPOSSIBLE = ("<0xFF>", "<0xFE>", "<0xC0>", "<0xC1>", "ÿ", "þ", "ý", "ü", "À", "Á")


def load_tokenizer(source: Any, required: bool = True) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a base. Where there is none: `LangBridgeError`, or None if it is not required."""
    if not isinstance(source, str | Path):
        if required:
            raise LangBridgeError(
                f"tokenizer: got a {type(source).__name__}, expected the folder or hub id that has the "
                f"model's tokenizer"
            )
        return None
    folder = Path(source)
    if not required and folder.is_dir() and not [*folder.glob("*token*"), *folder.glob("*.model")]:
        return None
    check_tokenizer(source)
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except Exception as error:  # tokenizers raise whatever they like on a folder without files
        if not required:
            return None
        raise LangBridgeError(f"tokenizer: {str(source)!r} has none that can be loaded: {error}") from error


def whitespace_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Add to an encoder's tokenizer the whitespace that it would lose, and return the new ids. A second call
    adds nothing."""
    if any(mark >= len(tokenizer) for mark in marks_of(tokenizer).values()):
        return []  # M2M-100 has its languages' marks where new tokens would go
    lost = [
        space
        for space in WHITESPACE
        if space not in tokenizer.decode(tokenizer.encode(f"a{space}b", add_special_tokens=False))
    ]
    before = len(tokenizer)
    tokenizer.add_tokens([AddedToken(space, normalized=False) for space in lost])
    return list(range(before, len(tokenizer)))


def bare_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of an encoder's tokenizer that stand for no character: special ones, and the mark of a space that no
    word follows. The unknown token stands for some, and so do those that were added for white space."""
    unknown, added = tokenizer.unk_token_id, tokenizer.added_tokens_decoder
    marks = {i for token, i in tokenizer.get_vocab().items() if not token.strip("▁Ġ") and i not in added}
    special = {i for i, token in added.items() if token.special or i in tokenizer.all_special_ids}
    return sorted((marks | special) - {unknown})


def has_digits_apart(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it gives every digit of a number a token of its own."""
    if not tokenizer.is_fast:
        return False
    spans = tokenizer("1728", add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return all(stop - start <= 1 for start, stop in spans)


def set_digits_apart(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let an encoder's tokenizer give every digit a token of its own, each as the beginning of a word. A second call
    changes nothing."""
    if not tokenizer.is_fast:
        raise LangBridgeError(
            f"split_digits: the encoder's tokenizer ({type(tokenizer).__name__}) is not a fast one (tokenizer.json), "
            "which it needs; set it to false"
        )
    if has_digits_apart(tokenizer):
        return
    backend = tokenizer.backend_tokenizer
    # The space before a number belongs to its first digit, or it would become a token that stands for nothing.
    first = pre_tokenizers.Split(Regex(r"\s?\p{N}"), "isolated")
    own = backend.pre_tokenizer
    backend.pre_tokenizer = first if own is None else pre_tokenizers.Sequence([first, own])


def choose_placeholder(config: PreTrainedConfig | None, rows: int, tokenizer: PreTrainedTokenizerBase | None) -> int:
    """An id inside the language model's vocabulary that text will not contain, to mark the places of soft prompts.

    In this order: a row that no token uses; unk; a reserved token, which no conversation has; a byte that UTF-8 never
    contains; the last id that does not begin, end or pad. Inside the vocabulary, because repetition penalties and their
    kin index the logits with it.
    """
    taken: set[int | None] = set()
    # A model of text and images keeps the ids in its text config, and not every config has all three.
    for source in (tokenizer, None if config is None else config.get_text_config()):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(source, name, None)
            taken.update(value if isinstance(value, list) else [value])
    last = next(i for i in range(rows - 1, -1, -1) if i not in taken)
    if tokenizer is None or max(tokenizer.get_vocab().values()) < last:
        return last
    vocabulary, spoken = tokenizer.get_vocab(), str(tokenizer.chat_template)
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special and str(token) not in spoken]
    broken = {text: vocabulary[text] for text in _IMPOSSIBLE if text in vocabulary}
    never = [i for text, i in broken.items() if i not in tokenizer.encode(text, add_special_tokens=False)]
    candidates = [tokenizer.unk_token_id, *sorted(special, reverse=True), *never]
    return next((i for i in candidates if i is not None and i not in taken and i < rows), last)
