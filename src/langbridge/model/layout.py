"""Rows as tokens: what either model reads of them, where each part stands, what is learned, what was cut, and how much
room is left. `sequence.py` draws them.

    [begin] own text, and for each source a placeholder a soft prompt and one for its end vector | target [end]
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from langbridge.errors import LangBridgeError
from langbridge.model.configuration import IGNORE
from langbridge.model.connectors.settings import ConnectorSettings
from langbridge.model.language_marks import mark_languages
from langbridge.model.sequence import END_VECTORS, Own, Part, Soft, begin_ids, sources_of


class Span(NamedTuple):
    """Positions of the language model's sequence, the last one excluded. Of a `soft` span the end vector's is the last;
    what it reads is the row's next source."""

    kind: Literal["begin", "own", "soft", "target", "end"]
    start: int
    stop: int


@dataclass(kw_only=True)
class Row:
    """One row as tokens.

    ids, labels: the language model's sequence, and what is learned of it (-100 elsewhere). sources: the encoder's ids,
    source by source. prompt_cut, target_cut: whether some of it was left out. room: positions left up to the limit,
    None without one.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    sources: list[list[int]] = field(default_factory=list)
    prompt_cut: bool = False
    target_cut: bool = False
    room: int | None = None

    @property
    def own(self) -> int:
        """Positions besides those of the sources."""
        return sum(span.stop - span.start for span in self.spans if span.kind != "soft")

    def add(self, kind: Literal["begin", "own", "soft", "target", "end"], ids: list[int]) -> None:
        """One more span, unless it is empty."""
        if ids:
            self.spans.append(Span(kind, len(self.ids), len(self.ids) + len(ids)))
            self.ids += ids
            self.labels += ids if kind in ("target", "end") else [IGNORE] * len(ids)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Both tokenizers, and all that a row's layout asks of the models behind them.

    placeholder: the id that marks a soft prompt's place. encoder_limit: the most tokens that the encoder can read.
    bare: the encoder's tokens that get no soft prompt.
    """

    tokenizer: PreTrainedTokenizerBase
    encoder_tokenizer: PreTrainedTokenizerBase
    connector: ConnectorSettings
    placeholder: int
    encoder_limit: int | None
    bare: frozenset[int] = frozenset()

    def rows(
        self,
        rows: Sequence[Sequence[Part]],
        *,
        whole: bool = False,
        targets: Sequence[str] | None = None,
        end: int | None = None,
        languages: Sequence[str | None] | None = None,
        max_encoder_length: int | None = None,
        max_length: int | None = None,
        cut: Sequence[str] = (),
        where: str = "texts",
    ) -> list[Row]:
        """Rows of parts as tokens.

        whole: they write their beginning themselves. targets, end: what is to be learned behind each row, and the id
        that closes it. languages: of each row's sources. cut: what may be cut to the limits, `encoder` and `target`;
        what else exceeds them is an error. where: what the parts are called in errors. Raises `LangBridgeError`.
        """
        laid = [Row() for _ in rows]
        self._read(laid, rows, max_encoder_length, "encoder" in cut)
        given = list(languages or [None] * len(rows))
        marks = [language for row, language in zip(laid, given, strict=True) for _ in row.sources]
        marked = iter(mark_languages(self.encoder_tokenizer, [one for row in laid for one in row.sources], marks))
        texts = list(dict.fromkeys(part.text for row in rows for part in row if isinstance(part, Own)))
        own = dict(zip(texts, self._own_ids(texts, where), strict=True))
        begin = [] if whole else begin_ids(self.tokenizer)
        for row, parts in zip(laid, rows, strict=True):
            row.sources = [next(marked) for _ in row.sources]
            self._lay(row, parts, own, begin)
        tails = self._own_ids(targets or [""] * len(rows), "targets")
        closing = [] if end is None else [end]
        for number, (row, parts, language, tail) in enumerate(zip(laid, rows, given, tails, strict=True)):
            if max_length is not None:
                limit = max_length - len(tail) - len(closing)
                room = limit - len(row.ids)
                of_target = "target" in cut and targets is not None
                if room < 0 and of_target and -room <= len(tail):
                    tail, row.target_cut, room = tail[: len(tail) + room], True, 0
                elif room < 0 and "encoder" in cut and not of_target:
                    row = laid[number] = self._shortened(row, parts, language, limit)
                    room = limit - len(row.ids)
                row.room = room
                if room < 0:
                    raise self._too_long(number, row, max_length, cut)
            row.add("target", tail)
            row.add("end", closing)
        return laid

    def longest_source(self, limit: int | None) -> int | None:
        """The most tokens of a source: those that the encoder can read, or fewer; None without a limit."""
        return min((some for some in (limit, self.encoder_limit) if some is not None), default=None)

    def soft_positions(self, source: Sequence[int]) -> int:
        """Positions of the language model that a source takes, given as the encoder's ids."""
        return self.most_positions(sum(token not in self.bare for token in source) if self.bare else len(source))

    def most_positions(self, src_length: int) -> int:
        """The same of so many encoder tokens that all get a soft prompt."""
        return self.connector.soft_length(src_length) + END_VECTORS

    def source_in(self, room: int) -> int | None:
        """The most tokens of a source that takes no more positions than these; None where any number of them does."""
        return self.connector.longest_source(room - END_VECTORS)

    def with_sources(self, row: Row, sources: Sequence[list[int]]) -> Row:
        """The row with these in place of its sources, which may be shorter."""
        changed, left = Row(sources=list(sources), prompt_cut=True), iter(sources)
        for kind, start, stop in row.spans:
            changed.add(kind, self._places(next(left)) if kind == "soft" else row.ids[start:stop])
        return changed

    def _read(self, laid: list[Row], rows: Sequence[Sequence[Part]], limit: int | None, may_cut: bool) -> None:
        """The encoder's ids of every source, special tokens included."""
        owners = [row for row, parts in zip(laid, rows, strict=True) for part in parts if isinstance(part, Soft)]
        texts = sources_of(rows)
        ids = self.encoder_tokenizer(texts, verbose=False)["input_ids"] if texts else []
        longest = self.longest_source(limit)
        long = [] if longest is None else [number for number, one in enumerate(ids) if len(one) > longest]
        if long and not may_cut:
            hard = longest == self.encoder_limit
            reason = f"the encoder has positions for {longest}" if hard else f"max_encoder_length is {longest}"
            numbers = [number for number, row in enumerate(laid) if any(owners[one] is row for one in long)]
            raise LangBridgeError(
                f"texts, rows {numbers}: the longest has {max(len(ids[one]) for one in long)} encoder tokens, but "
                f"{reason}; shorten the text, raise the limit where it is yours, or cut with truncation='encoder'"
            )
        if long:
            for one, kept in zip(long, self._cut([texts[one] for one in long], longest), strict=True):
                ids[one], owners[one].prompt_cut = kept, True
        for row, one in zip(owners, ids, strict=True):
            row.sources.append(one)

    def _cut(self, texts: Sequence[str], longest: int | None) -> list[list[int]]:
        """The encoder's ids of texts that are longer than that."""
        # The tokenizer cuts, because it keeps its closing token.
        return list(self.encoder_tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"])

    def _shortened(self, row: Row, parts: Sequence[Part], language: str | None, limit: int) -> Row:
        """The row in so many positions, its longest source cut; as it is where that does not do."""
        longest = max(range(len(row.sources)), key=lambda number: len(row.sources[number]))
        most = self.source_in(limit - len(row.ids) + self.soft_positions(row.sources[longest]))
        if most is None or most <= self.encoder_tokenizer.num_special_tokens_to_add():
            return row
        kept = mark_languages(self.encoder_tokenizer, self._cut([sources_of([parts])[longest]], most), [language])
        return self.with_sources(row, [*row.sources[:longest], *kept, *row.sources[longest + 1 :]])

    def _lay(self, row: Row, parts: Sequence[Part], own: dict[str, list[int]], begin: list[int]) -> None:
        """The row up to its target."""
        sources = iter(row.sources)
        spans = [(part, own[part.text] if isinstance(part, Own) else self._places(next(sources))) for part in parts]
        first = next((ids for _, ids in spans if ids), [])
        row.add("begin", begin if first[: len(begin)] != begin else [])
        for part, ids in spans:
            row.add("own" if isinstance(part, Own) else "soft", ids)

    def _places(self, source: Sequence[int]) -> list[int]:
        return [self.placeholder] * self.soft_positions(source)

    def _own_ids(self, texts: Sequence[str], where: str) -> list[list[int]]:
        rows = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        for text, row in zip(texts, rows, strict=True):
            if self.placeholder in row:
                raise LangBridgeError(
                    f"{where}: {text[:60]!r} contains the token with id {self.placeholder} "
                    f"({self.tokenizer.convert_ids_to_tokens(self.placeholder)!r}), which marks soft prompts; remove "
                    "it from the text, or build the bridge with another soft_prompt_token_id"
                )
        return rows

    def _too_long(self, number: int, row: Row, limit: int, cut: Sequence[str]) -> LangBridgeError:
        assert row.room is not None, "there is a limit"
        remedy = (
            f"or shorten the text: cutting ({' and '.join(cut)}) does not make it short enough"
            if any(cut)
            else "shorten the text, or ask for truncation ('encoder' cuts prompts, 'target' targets, True both)"
        )
        return LangBridgeError(
            f"texts, row {number}: the sequence has {limit - row.room} tokens ({row.ids.count(self.placeholder)} of "
            f"them for soft prompts), the limit max_length is {limit}; raise the limit, {remedy}"
        )


def pad_rows(rows: list[list[int]], value: int, side: str) -> list[list[int]]:
    """Rows of one length."""
    width = max(len(row) for row in rows)
    if side == "left":
        return [[value] * (width - len(row)) + row for row in rows]
    return [row + [value] * (width - len(row)) for row in rows]
