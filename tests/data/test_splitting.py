"""Prefix and continuation are the text, for every script, and no character that a reader sees is cut."""

from typing import Any

import pytest
import regex
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from langbridge.data import split_text

SCRIPTS = {
    "latin": "The quick brown fox jumps over the lazy dog. ",
    "combining": "e\u0301a\u0308o\u0302n\u0303" * 6 + " ",
    "cyrillic": "Съешь же ещё этих мягких французских булок. ",
    "arabic": "نص عربي مُشَكَّل لِلِاخْتِبَارِ ",
    "hebrew": "שָׁלוֹם עוֹלָם ",
    "devanagari": "क्षत्रिय विद्यार्थी ",
    "bengali": "কেমন আছেন আপনি ",
    "telugu": "తెలుగు లిపిలో ఒక వాక్యం ",
    "thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "khmer": "ភាសាខ្មែរ",
    "hangul": "한국어 문장입니다 ",
    "jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af ",
    "japanese": "日本語の文章です。がぎぐ",
    "chinese": "天地玄黃，宇宙洪荒。",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇫🇷🇩🇪❤️",
    "code": "def f(x):\n\tif x:\r\n\t\treturn {'a': [1, 2]}  # ok\n\n",
    "white space": " \t\n\r\n   \x0b\x0c    ",
    "compatibility": "ﷺ ﬁ ① ㎏ Ⅷ ",  # one character that NFKC makes several of
    "astral": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈𐌰 ",
}
WORDS = st.sampled_from([piece for text in SCRIPTS.values() for piece in regex.findall(r"\X", text)])
TEXTS = st.one_of(
    st.lists(WORDS, max_size=120).map("".join),
    st.lists(st.sampled_from(list(SCRIPTS.values())), max_size=6).map("".join),
    st.text(max_size=120),
)


def counted(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, verbose=False)["input_ids"])


def boundaries(text: str) -> set[int]:
    return {0, *(found.end() for found in regex.finditer(r"\X", text))}


@pytest.mark.parametrize(
    "kind", ["mt5", "llama", "qwen", "byt5"]
)  # unigram, BPE with byte fallback, byte-level BPE, bytes
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, length=st.integers(2, 40))
@example(text="0\u0300ﷺ", length=8)  # what is over the limit is all of the last character, not of the first grapheme
def test_prefix_and_continuation_are_the_text(tokenizers: dict[str, Any], kind: str, text: str, length: int) -> None:
    tokenizer = tokenizers[kind]
    halves = split_text(text, tokenizer, length)
    if halves is None:
        return
    prefix, continuation = halves
    assert prefix + continuation == text
    assert prefix
    assert continuation.strip(), "a continuation of white space alone teaches nothing"
    assert counted(tokenizer, prefix) <= length, "counted on the prefix alone, as the encoder will see it"
    if len(prefix) not in boundaries(text):
        first = regex.match(r"\X", text).group()
        assert counted(tokenizer, first) > length, "only a grapheme that is too long by itself is cut"
        assert len(prefix) < len(first)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_can_be_split(tokenizers: dict[str, Any], script: str) -> None:
    text = SCRIPTS[script] * 8 + "end"
    prefix, continuation = split_text(text, tokenizers["llama"], 33) or ("", "")
    assert prefix + continuation == text
    assert len(prefix) in boundaries(text)


def test_a_long_text_is_split_without_reading_it_all(tokenizers: dict[str, Any]) -> None:
    class Counting:
        is_fast = True
        seen = 0

        def num_special_tokens_to_add(self, pair: bool) -> int:
            return 1

        def __call__(self, text: str, **kwargs: Any) -> Any:
            self.seen = max(self.seen, len(text))
            return tokenizers["mt5"](text, **kwargs)

    tokenizer = Counting()
    text = SCRIPTS["latin"] * 100_000
    prefix, _ = split_text(text, tokenizer, 64) or ("", "")
    assert prefix
    assert tokenizer.seen <= 16 * 64


@pytest.mark.parametrize("text", ["", " ", "a", "Tom", "Tom has 3 apples.", "Tom has 3 apples." + " " * 500])
def test_a_text_without_room_for_a_continuation_is_not_split(tokenizers: dict[str, Any], text: str) -> None:
    assert split_text(text, tokenizers["mt5"], 40) is None


def test_the_prefix_is_as_long_as_it_may_be(tokenizers: dict[str, Any]) -> None:
    text = SCRIPTS["latin"] * 8
    for length in range(2, 60):
        prefix, _ = split_text(text, tokenizers["mt5"], length) or ("", "")
        assert counted(tokenizers["mt5"], prefix) == length


def test_an_unavoidable_cut_is_between_characters(tokenizers: dict[str, Any]) -> None:
    text = "e" + "\u0301" * 60 + " and more"
    prefix, continuation = split_text(text, tokenizers["qwen"], 9) or ("", "")
    assert prefix + continuation == text
    assert 0 < len(prefix) < 61


class Slow:
    """A tokenizer that gives no offsets, and how often it was asked for how many characters."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.calls, self.characters = 0, 0

    def num_special_tokens_to_add(self, pair: bool) -> int:
        return int(self.tokenizer.num_special_tokens_to_add(pair))

    def __call__(self, text: str, **kwargs: Any) -> Any:
        assert "return_offsets_mapping" not in kwargs
        self.calls += 1
        self.characters += len(text)
        return self.tokenizer(text, **kwargs)


@pytest.mark.parametrize("script", SCRIPTS)
def test_offsets_are_not_needed(tokenizers: dict[str, Any], script: str) -> None:
    text = SCRIPTS[script] * 8 + "end"
    for length in (3, 9, 17):
        assert split_text(text, Slow(tokenizers["qwen"]), length) == split_text(text, tokenizers["qwen"], length)


@pytest.mark.parametrize("script", ["latin", "thai", "emoji", "code"])
@pytest.mark.parametrize("kind", ["byt5", "qwen"])
def test_a_split_without_offsets_takes_few_calls(tokenizers: dict[str, Any], kind: str, script: str) -> None:
    """A tokenizer without offsets is plain Python, a millisecond for a thousand characters."""
    tokenizer = Slow(tokenizers[kind])
    text = (SCRIPTS[script] * 1000)[:10_000]
    assert split_text(text, tokenizer, 300)
    assert tokenizer.calls <= 20
    assert tokenizer.characters <= 3 * 16 * 300, "of a text of one script"
