"""A page of Markdown, written from top to bottom."""

from collections.abc import Sequence
from pathlib import Path

from langbridge import markdown
from langbridge.files import write_atomically

FIGURES = "figures"


class Page:
    """Blocks in order; `write` puts them into `folder`/report.md, beside the pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blocks: list[str] = []

    def heading(self, text: str, level: int = 2) -> None:
        self.blocks.append(f"{'#' * level} {text}")

    def say(self, *sentences: str) -> None:
        self.blocks.append(" ".join(sentences))

    def points(self, items: Sequence[str]) -> None:
        if items:
            self.blocks.append("\n".join(f"- {item}" for item in items))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[int] = ()) -> None:
        """As `langbridge.markdown.table`; a `|` in a cell is text."""
        plain = [[cell.replace("|", "\\|") for cell in line] for line in (headings, *rows)]
        self.blocks.append(markdown.table(plain[0], plain[1:], texts=texts))

    def picture(self, name: str, about: str) -> Path:
        """Where to draw it, without its ending: NAME.png and NAME.svg are expected there."""
        self.blocks.append(f"![{about}]({FIGURES}/{name}.png)")
        (self.folder / FIGURES).mkdir(parents=True, exist_ok=True)
        return self.folder / FIGURES / name

    def write(self) -> None:
        write_atomically(self.folder / "report.md", "\n\n".join(self.blocks) + "\n")
