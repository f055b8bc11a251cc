"""The report: blocks in order, as Markdown beside its pictures and as one HTML file that loads nothing."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Protocol

from langbridge.files import write_atomically

FIGURES = "figures"

_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; font-size: .92em; }
th, td { padding: .25rem .6rem; text-align: right; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
th { border-bottom: 1px solid #222; } td { border-bottom: 1px solid #ddd; }
img { max-width: 100%; } code { background: #f3f3f3; padding: 0 .2em; }
"""


class Block(Protocol):
    def markdown(self) -> str: ...

    def html(self, folder: Path) -> str: ...


@dataclass(frozen=True)
class Heading:
    level: int
    text: str

    def markdown(self) -> str:
        return f"{'#' * self.level} {self.text}"

    def html(self, folder: Path) -> str:
        return f"<h{self.level}>{_inline(self.text)}</h{self.level}>"


@dataclass(frozen=True)
class Paragraph:
    text: str

    def markdown(self) -> str:
        return self.text

    def html(self, folder: Path) -> str:
        return f"<p>{_inline(self.text)}</p>"


@dataclass(frozen=True)
class Points:
    items: tuple[str, ...]

    def markdown(self) -> str:
        return "\n".join(f"- {item}" for item in self.items)

    def html(self, folder: Path) -> str:
        return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in self.items)}</ul>"


@dataclass(frozen=True)
class Table:
    """Columns are of numbers, to the right, but for the first and those of `texts`."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[int, ...] = ()

    def markdown(self) -> str:
        left = {0, *self.texts}
        rule = tuple("---" if place in left else "---:" for place in range(len(self.headings)))
        lines = [self.headings, rule, *self.rows]
        return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

    def html(self, folder: Path) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            kinds = [' class="text"' if place in self.texts else "" for place in range(len(cells))]
            found = (f"<{tag}{kind}>{_inline(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
            return f"<tr>{''.join(found)}</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        head = line(self.headings, "th")
        return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Picture:
    name: str
    about: str

    def markdown(self) -> str:
        return f"![{self.about}]({FIGURES}/{self.name}.png)"

    def html(self, folder: Path) -> str:
        data = base64.b64encode((folder / FIGURES / f"{self.name}.png").read_bytes()).decode()
        return f'<p><img alt="{escape(self.about)}" src="data:image/png;base64,{data}"></p>'


@dataclass
class Page:
    """Written from top to bottom, then put into `folder` by `write`."""

    folder: Path
    blocks: list[Block] = field(default_factory=list)

    def heading(self, text: str, level: int = 2) -> None:
        self.blocks.append(Heading(level, text))

    def say(self, *sentences: str) -> None:
        """A paragraph; `code`, *stress* and **stronger stress** are marked as in Markdown."""
        self.blocks.append(Paragraph(" ".join(sentences)))

    def points(self, items: Sequence[str]) -> None:
        if items:
            self.blocks.append(Points(tuple(items)))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[int] = ()) -> None:
        self.blocks.append(Table(tuple(headings), tuple(map(tuple, rows)), tuple(texts)))

    def picture(self, name: str, about: str) -> Path:
        """Where to draw it, without its ending: NAME.png and NAME.svg are expected there."""
        self.blocks.append(Picture(name, about))
        (self.folder / FIGURES).mkdir(parents=True, exist_ok=True)
        return self.folder / FIGURES / name

    def write(self) -> None:
        """report.md and report.html."""
        write_atomically(self.folder / "report.md", "\n\n".join(block.markdown() for block in self.blocks) + "\n")
        write_atomically(self.folder / "report.html", self._html())

    def _html(self) -> str:
        title = next((block.text for block in self.blocks if isinstance(block, Heading)), "Study")
        body = "\n".join(block.html(self.folder) for block in self.blocks)
        head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    return re.sub(r"\*([^*]+)\*", r"<i>\1</i>", text)
