"""Markdown in GitHub's flavour: what reports and model cards share."""

from collections.abc import Collection, Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Collection[int] = ()) -> str:
    """A table. Columns hold numbers and are aligned right, but for the first and those of `texts`."""
    rule = ["---" if place == 0 or place in texts else "---:" for place in range(len(headings))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def escaped(text: str) -> str:
    """Text as it is. Underscores within words mean nothing in Markdown already."""
    for character in "\\|<*`[":
        text = text.replace(character, "\\" + character)
    return text
