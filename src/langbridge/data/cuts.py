"""Prompts and targets that were cut to a limit: a warning for the first, then counts."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context

_KINDS = ("prompts", "targets")


class Cuts:
    """How many prompts and targets a collator has cut, counted in memory that its loader's workers share."""

    def __init__(self) -> None:
        self._counts = get_context("spawn").Array("q", len(_KINDS))  # which workers started in any way can share

    @property
    def counts(self) -> dict[str, int]:
        """By kind, `prompts` and `targets`; a row that is read again counts again."""
        return dict(zip(_KINDS, self._counts[:], strict=True))

    @contextmanager
    def counting(self, origins: Sequence[str]) -> Iterator[None]:
        """Around the processor's call on these rows. Only the first warning of each kind is passed on, with
        the row's origin."""
        from langbridge.model.processing import CutWarning

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            cut = warning.message
            if isinstance(cut, CutWarning):
                self.add(cut.kind, cut.limit, [origins[row] for row in cut.rows])
            else:
                warnings.warn_explicit(cut, warning.category, warning.filename, warning.lineno)

    def add(self, kind: str, limit: str, origins: list[str]) -> None:
        """Count rows whose `kind` was cut to `limit`; the first is named in a warning."""
        if not self.counts[kind]:
            warnings.warn(
                f"{origins[0]}: the {kind.removesuffix('s')} was cut to {limit}; further ones are counted, not named",
                stacklevel=4,
            )
        with self._counts.get_lock():
            self._counts[_KINDS.index(kind)] += len(origins)


def told(counts: Mapping[str, int]) -> str:
    """Counts by kind in words; empty where nothing was cut."""
    cut = [f"{count} {kind if count > 1 else kind.removesuffix('s')}" for kind, count in counts.items() if count]
    return f"cut to fit, repeats counted: {', '.join(cut)}" if cut else ""
