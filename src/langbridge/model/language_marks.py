"""The mark by which some encoders are told the language of their input.

The tokenizers of NLLB, M2M-100 and mBART set a token such as `swh_Latn`, `__sw__` or `sw_KE` before or behind every
text, and English's where nothing is said. Other encoders need no mark.
"""

import re

from transformers import PreTrainedTokenizerBase

from langbridge.errors import LangBridgeError
from langbridge.languages import FLORES, two_letter

_MARK = re.compile(r"(?:__)?([a-z]{2,3}(?:_[A-Za-z]{2,4})?)(?:__)?")


def own_mark(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The mark that a tokenizer sets where nothing is said; None for one that sets none."""
    found = _placed(tokenizer)
    return None if found is None else str(tokenizer.convert_ids_to_tokens(found[1]))


def knows_language(tokenizer: PreTrainedTokenizerBase, language: str) -> bool:
    """Whether a tokenizer has a mark for a language, or needs none."""
    return _placed(tokenizer) is None or _mark(marks_of(tokenizer), language) is not None


def mark_languages(
    tokenizer: PreTrainedTokenizerBase, rows: list[list[int]], languages: list[str | None]
) -> list[list[int]]:
    """A tokenizer's ids of some texts, with the mark of each text's language (`sw`, `swh_Latn`) in place of the
    tokenizer's own, which stays where the language is None. The tokenizer itself is left as it is.

    Raises `LangBridgeError` for a language without a mark; a tokenizer without marks is content with any.
    """
    found = _placed(tokenizer) if any(languages) else None
    if found is None:
        return rows
    place, _ = found
    marks = marks_of(tokenizer)
    marked = []
    for number, (row, language) in enumerate(zip(rows, languages, strict=True)):
        row = list(row)
        if language is not None:
            mark = _mark(marks, language)
            if mark is None:
                raise LangBridgeError(
                    f"source_language, row {number}: got {language!r}, for which the encoder's tokenizer has no mark; "
                    f"expected one of its {len(marks)} languages ({', '.join(sorted(marks))}), a code such as 'sw' of "
                    "one of them, or nothing"
                )
            row[place] = mark
        marked.append(row)
    return marked


def marks_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Every mark's id by its code."""
    special = {i: token for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= getattr(tokenizer, "id_to_lang_token", {})  # M2M-100's are among no tokens of its tokenizer
    found = {i: _MARK.fullmatch(str(token)) for i, token in special.items()}
    return {match[1]: i for i, match in found.items() if match}


def _placed(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int] | None:
    """Where among a text's ids the mark stands, counted from the end where it stands behind the text, and its id."""
    marks = set(marks_of(tokenizer).values())
    bare, one = tokenizer("")["input_ids"], tokenizer("a")["input_ids"]
    for place, token in enumerate(bare):
        if token in marks:
            return (place if one[place] == token else place - len(bare)), token
    return None


def _mark(marks: dict[str, int], language: str) -> int | None:
    code = language.replace("-", "_")
    if code in marks:
        return marks[code]
    base, script = two_letter(code), _script(code)
    flores = FLORES.get(code.split("_")[0].lower()) or FLORES.get(base)
    if flores is not None:
        wanted = flores if script is None else f"{flores.split('_')[0]}_{script}"
        if wanted in marks:
            return marks[wanted]
    # mBART's have a region, M2M-100's have neither, and NLLB's own codes may have been given without their script.
    near = [mark for mark in marks if two_letter(mark) == base and (script is None or _script(mark) is None)]
    return marks[near[0]] if len(near) == 1 else None


def _script(code: str) -> str | None:
    return next((part.title() for part in code.split("_")[1:] if len(part) == 4), None)
