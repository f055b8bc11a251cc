"""The `data` block of a recipe: where rows come from and what is taken from each.

Reading it loads neither torch nor `datasets`; nothing is opened here.
"""

import glob
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from langbridge.data.columns import Columns
from langbridge.errors import LangBridgeError
from langbridge.files import named_as_on_the_hub
from langbridge.languages import language_code
from langbridge.settings import Settings, join

Regime = Literal["labelled", "unlabelled"]
"""What a row is: a prompt with its target, or a text."""

SampleBy = Literal["line", "paragraph", "document"]

Quoting = Literal["auto", "quoted", "plain"]

OnBadRow = Literal["error", "skip"]
"""Whether a bad row is raised, or counted and left out."""

FILE_NAME = re.compile(r"\.(jsonl|ndjson|json|parquet|csv|tsv|txt)(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
"""Names of the files that a folder is searched for; what an id on the hub does not look like."""

FIELDS: dict[Regime, dict[str, str]] = {
    "labelled": {"prompt": "input", "target": "output"},
    "unlabelled": {"text": "text"},
}
"""The texts of a row by its kind, and the key of the `data` block that names the column of each."""

_OF_A_SOURCE = ("language", "input", "output", "text", "name", "split", "revision", "sample_by", "quoting")


def _named(path: str) -> str:
    if not path.strip():
        raise LangBridgeError(f"expected a file, a folder or OWNER/NAME, got {path!r}")
    return path


Place = Annotated[str, AfterValidator(_named)]
"""A file, a folder, a glob, or an id on the Hugging Face hub."""

Text = Annotated[str, AfterValidator(lambda text: Columns(text).template)]
"""A column's name, or a template over columns."""


def _code(text: str) -> str:
    code = language_code(text)
    if code is None:
        raise LangBridgeError(f"expected a language, such as en or English, got {text!r}")
    return code


Language = Annotated[str, AfterValidator(_code)]
"""A code, or an English name, which is read as its code."""


class Source(Settings):
    """One of several places that rows come from. Keys besides `weight` mean what they mean in `Data`, and default to
    what the block around them says."""

    path: Place

    targets: str | None = None
    """Of bitext in two files: the one whose row i, its field `text`, is the field `target` of row i in `path`."""

    weight: PositiveFloat | None = None
    """Share of the rows, relative to the other sources' weights; all sources have one or none has."""

    language: Language | None = None
    input: Text | None = None
    output: Text | None = None
    text: Text | None = None
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    sample_by: SampleBy | None = None
    quoting: Quoting | None = None


class Validation(Settings):
    """Held-out sets, each measured by itself."""

    labelled: Source | None = None
    """Pairs of a prompt and its target."""

    unlabelled: Source | None = None
    """Texts, split into prefix and continuation."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.labelled is None and self.unlabelled is None:
            raise LangBridgeError("labelled: missing, and so is unlabelled; expected at least one of them")
        return self


class Data(Settings):
    """Where the training rows are and what is taken from them."""

    path: Place | None = None
    """A file (JSON lines, Parquet, CSV or text, also as .gz, .bz2, .xz or .zst), a folder or a glob of such files, or
    OWNER/NAME on the Hugging Face hub."""

    targets: str | None = None
    """Of bitext in two files: the one whose row i, its field `text`, is the field `target` of row i in `path`, which is
    then one file, too."""

    sources: tuple[Source, ...] | None = Field(default=None, min_length=1)
    """Several places instead of `path`; what a source does not say is taken from this block."""

    language: Language | None = None
    """The language of the prompts, or texts, which nothing but the model card depends on."""

    input: Text = "query"
    """Column of the prompt, or a template over columns, as in "{system_prompt}\\n\\n{question}"; what comes out takes
    the place of `{prompt}` in the recipe's template."""

    output: Text = "response"
    """Column of the text to be learned, or a template over columns."""

    text: Text | None = None
    """Column of unlabelled text, or a template over columns; `text` where nothing is said. With `objective: plain`
    or `distil`, naming it trains on these texts instead of on pairs."""

    name: str | None = None
    """Configuration of a data set on the hub."""

    split: str | None = None
    """Split of a data set on the hub, or of a folder whose files have splits in their names; train, where nothing is
    said."""

    revision: str | None = None
    """Revision of a data set on the hub."""

    sample_by: SampleBy = "line"
    """What a row of a text file is: a line, a paragraph (up to an empty line) or the whole file."""

    quoting: Quoting = "auto"
    """What quotes are in a CSV or TSV file: around fields (quoted), characters like any other (plain), or as the file
    shows (auto)."""

    streaming: bool = False
    """Read rows while training instead of preparing a table on disk first. It needs `train.max_steps`."""

    shuffle_buffer: PositiveInt = 10_000
    """With `streaming`: how many rows are shuffled at a time; 1 keeps their order."""

    on_bad_row: OnBadRow = "error"
    """Whether a bad row stops the run, or is left out and counted."""

    validation_path: str | None = None
    """Held-out rows of the run's own kind with the same columns, for the validation loss."""

    validation: Validation | None = None
    """Held-out sets with columns of their own, instead of `validation_path`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.path is None and self.sources is None:
            raise LangBridgeError("path: missing, and it has no default; expected a file, a folder or OWNER/NAME")
        if self.path is not None and self.sources is not None:
            raise LangBridgeError("sources: stands beside path; expected one of the two")
        if self.targets is not None and self.sources is not None:
            raise LangBridgeError("targets: stands beside sources; give each source its own")
        weighted = [source.weight is not None for source in self.sources or ()]
        if any(weighted) and not all(weighted):
            index = weighted.index(False)
            raise LangBridgeError(f"sources[{index}].weight: missing; give every source a weight, or none")
        if self.validation is not None and self.validation_path is not None:
            raise LangBridgeError("validation: stands beside validation_path; expected one of the two")
        return self

    @property
    def names_texts(self) -> bool:
        """Whether some source names a column of texts."""
        return self.text is not None or any(source.text is not None for source in self.sources or ())

    @property
    def training_sources(self) -> tuple[Source, ...]:
        """Every training source with all its settings filled in."""
        if self.sources is None:
            assert self.path is not None
            return (self._filled(Source(path=self.path, targets=self.targets)),)
        return tuple(self._filled(source) for source in self.sources)

    def validation_sources(self, regime: Regime) -> dict[Regime, Source]:
        """The held-out sets by their kind; `validation_path` counts as one of the run's own `regime`."""
        if self.validation_path is not None:
            return {regime: self._filled(Source(path=self.validation_path))}
        sets: Any = self.validation or ()
        return {kind: self._filled(source) for kind, source in sets if source is not None}

    def relocated(self, found: Callable[[str], str]) -> "Data":
        """The same with `found(path)` for every path."""

        def moved(source: Source) -> Source:
            targets = source.targets and found(source.targets)
            return source.model_copy(update={"path": found(source.path), "targets": targets})

        sets = {kind: source and moved(source) for kind, source in self.validation or ()}
        places = {
            "path": self.path and found(self.path),
            "targets": self.targets and found(self.targets),
            "sources": self.sources and tuple(map(moved, self.sources)),
            "validation_path": self.validation_path and found(self.validation_path),
            "validation": self.validation and Validation(**sets),
        }
        return self.model_copy(update=places)

    def check_files(self, where: str = "data") -> None:
        """Raise for a path that is neither here nor an id on the hub; `where` is the block's place in the recipe."""
        aligned = [("targets", self.targets)]
        aligned += [(f"sources[{i}].targets", source.targets) for i, source in enumerate(self.sources or ())]
        aligned += [(f"validation.{kind}.targets", source.targets) for kind, source in self.validation or () if source]
        for key, path in aligned:
            if path is not None and not Path(path).expanduser().is_file():
                raise LangBridgeError(f"{join(where, key)}: no such file: {path}")
        named: list[tuple[str, str | None]] = [("path", self.path), ("validation_path", self.validation_path)]
        named += [(f"sources[{i}].path", source.path) for i, source in enumerate(self.sources or ())]
        named += [(f"validation.{kind}.path", source.path) for kind, source in self.validation or () if source]
        for key, path in named:
            if path is not None and not is_here(path) and not is_hub_id(path):
                raise LangBridgeError(f"{join(where, key)}: no such file: {path}")

    def _filled(self, source: Source) -> Source:
        missing = {key: getattr(self, key) for key in _OF_A_SOURCE if getattr(source, key) is None}
        return source.model_copy(update=missing)


def is_here(path: str) -> bool:
    """Whether `path` is a file, a folder, or a glob that matches something."""
    place = Path(path).expanduser()
    return place.exists() or any(glob.iglob(str(place), recursive=True))


def is_hub_id(path: str) -> bool:
    """Whether `path`, which is not here, reads as OWNER/NAME on the hub rather than as a file that is missing."""
    if not named_as_on_the_hub(path) or glob.has_magic(path):
        return False
    return not Path(path).parent.is_dir() and not FILE_NAME.search(path)
