"""What the language model reads of a prompt, in training, where the template gives it the prompt as its own tokens too.

In English it can read that text, and would learn to take no notice of the soft prompts. So some rows leave it out, and
some write it in letters and digits that are exchanged for others, as a language looks that the model does not know.
"""

import random
from collections.abc import Sequence

from pydantic import Field, model_validator

from langbridge.errors import LangBridgeError
from langbridge.settings import Settings

LATIN = "abcdefghijklmnopqrstuvwxyz"
SCRIPTS = tuple(
    "".join(map(chr, range(first, last + 1)))
    for first, last in (
        (0x3B1, 0x3C9),  # Greek
        (0x430, 0x44F),  # Cyrillic
        (0x10D0, 0x10F0),  # Georgian
        (0x915, 0x939),  # Devanagari
        (0x995, 0x9A8),  # Bengali
        (0xC15, 0xC28),  # Telugu
        (0xE01, 0xE2E),  # Thai
    )
)
"""Letters of some scripts, none of them words of a language."""


class TextNoise(Settings):
    """What training does to the language model's own copy of a prompt; the encoder always reads the prompt itself."""

    drop: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows in which the copy is left out."""

    scramble: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows in which its letters and digits are exchanged for others, half of them in another script. A
    copy that then leaves the target no room is left out."""

    @model_validator(mode="after")
    def _check(self) -> "TextNoise":
        if self.drop + self.scramble > 1:
            raise LangBridgeError(f"scramble: {self.scramble} and drop, {self.drop}, are more than all rows together")
        return self

    def __bool__(self) -> bool:
        return self.drop + self.scramble > 0

    def copy_of(self, prompt: str, rng: random.Random, scripts: Sequence[str] = SCRIPTS) -> str:
        """The prompt as the language model reads it in one row: whole, scrambled, or not at all."""
        drawn = rng.random()
        if drawn < self.drop:
            return ""
        return scrambled(prompt, rng, scripts) if drawn < self.drop + self.scramble else prompt


def scrambled(text: str, rng: random.Random, scripts: Sequence[str] = SCRIPTS) -> str:
    """The text in other letters and other digits, each the same one throughout; all else stays.

    scripts: besides the Latin one, those to draw from.
    """
    letters = rng.choice(scripts) if scripts and rng.random() < 0.5 else LATIN
    drawn, digits = rng.sample(letters, len(letters)), rng.sample("0123456789", 10)
    found = sorted({character.lower() for character in text if character.isalpha()})
    table = {letter: drawn[number % len(drawn)] for number, letter in enumerate(found)}
    table |= {digit: digits[number - 1] for number, digit in enumerate(digits)}  # none stays itself

    def exchanged(character: str) -> str:
        other = table.get(character.lower(), character)
        return other.upper() if character.isupper() else other

    return "".join(map(exchanged, text))
