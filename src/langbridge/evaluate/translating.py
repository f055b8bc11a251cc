"""Translate, then solve: the questions in English, by a translation model, as data that any model is evaluated on.

The translated rows are files in the published layout, so they can be read and corrected, and are not made twice.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.benchmarks import Benchmark, read_rows
from langbridge.evaluate.runs import read_json, write_json
from langbridge.evaluate.tasks.mgsm.documents import TEST as MGSM
from langbridge.evaluate.tasks.word_problems import MSVAMP
from langbridge.evaluate.tasks.xcopa.documents import XCOPA
from langbridge.files import write_jsonl
from langbridge.languages import FLORES
from langbridge.serve.engine import Decoding, Request, digest
from langbridge.serve.load import load_engine

Progress = Callable[[int], object]
"""Called with the number of texts that were just translated, as `tqdm.update` is."""

TRANSLATED: dict[str, tuple[Benchmark, tuple[str, ...], dict[str, str]]] = {
    "mgsm": (MGSM, ("question",), {}),
    "msvamp": (MSVAMP, ("m_query",), {}),
    "xcopa": (XCOPA, ("premise", "choice1", "choice2"), {"split": "test", "hub_split": "test"}),
}
"""By a family's name: its source, the fields that are translated, and what else names a file."""


class Translator:
    """A sequence-to-sequence model that translates into English.

    NLLB and M2M-100 are given both languages; any other model (OPUS-MT, a fine-tuned T5) is assumed to translate its
    input into English.
    """

    def __init__(self, name: str, *, dtype: str = "auto", device: str | None = None, batch_size: int = 16):
        self.name = name
        self.engine = load_engine(name, template="plain", dtype=dtype, device=device, batch_size=batch_size)
        if self.engine.identity["kind"] != "seq2seq":
            raise LangBridgeError(f"--translator: {name}: not a sequence-to-sequence model")
        self.tokenizer = self.engine.reader.tokenizer

    def translate(
        self, texts: Sequence[str], language: str, *, max_new_tokens: int = 512, progress: Progress | None = None
    ) -> list[str]:
        """English for each text, greedily; the text itself where the translator writes nothing.

        Warns of that, of texts that are longer than the translator reads and of translations that were cut off.
        """
        english, cut, unended, empty = list(texts), 0, 0, 0
        decoding = Decoding(max_new_tokens, options=self._languages(language))
        for place, answer in self.engine.generate([Request(text) for text in texts], decoding):
            english[place] = answer.text.strip() or texts[place]
            cut += answer.prompt_cut
            unended += answer.finish == "length"
            empty += not answer.text.strip()
            if progress is not None:
                progress(1)
        for count, what in (
            (cut, f"are longer than {self.name} reads and lost their beginning"),
            (unended, f"have a translation that was cut off after {max_new_tokens} tokens"),
            (empty, f"stay as they are, because {self.name} wrote nothing for them"),
        ):
            if count:
                warnings.warn(f"--translator: {count} of {len(texts)} texts in {language!r} {what}", stacklevel=2)
        return english

    def _languages(self, language: str) -> dict[str, Any]:
        vocabulary = self.tokenizer.get_vocab()
        for source, target in ((FLORES.get(language), FLORES["en"]), (f"__{language}__", "__en__")):
            if target in vocabulary:
                if source not in vocabulary:
                    raise LangBridgeError(f"--translator: {self.name} does not know the language {language!r}")
                self.tokenizer.src_lang = source if source == FLORES.get(language) else language
                return {"forced_bos_token_id": vocabulary[target]}
        return {}


def translate_family(
    translator: Translator,
    family: str,
    languages: Sequence[str],
    data: str | Path | None,
    out: Path,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a family's rows in English below `out`, one file a language, and return the data folder.

    Existing translations by the same model of the same data are kept. limit: the first rows only. English is copied.
    """
    if family not in TRANSLATED:
        raise LangBridgeError(
            f"--translator: {family} has no text to translate; expected one of {', '.join(TRANSLATED)}"
        )
    source, fields, names = TRANSLATED[family]
    for language in languages:
        found = read_rows(source, data, language=language, **names)
        path = out / family / f"{source.patterns[0].format(language=language, **names)}.jsonl"
        stamp = path.with_suffix(".json")
        identity = translator.engine.identity
        wanted = {"translator": identity["model"], "dtype": identity["dtype"], "data": found.origin, "limit": limit}
        if path.is_file() and stamp.is_file():
            made = read_json(stamp)
            if made.get("fingerprint") != digest(wanted):
                changed = [f"{name} was {made.get(name)!r} and is {wanted[name]!r}" for name in wanted
                           if made.get(name) != wanted[name]]  # fmt: skip
                raise LangBridgeError(
                    f"{path}: was translated otherwise: {'; '.join(changed)}; delete it first, or give another --out"
                )
            continue
        rows = [row for _, row in found.rows[:limit]]
        texts = [str(row[name]) for row in rows for name in fields]
        english = iter(texts if language == "en" else translator.translate(texts, language, progress=progress))
        # A row keeps its own text, so that a translation can be held against it.
        translated = [
            {**row, **{name: next(english) for name in fields}, "original": {name: row[name] for name in fields}}
            for row in rows
        ]
        write_jsonl(path, translated)
        write_json(stamp, {"format": 1, "fingerprint": digest(wanted), **wanted})
    return out
