"""What a language model reads of several bridges, on the same rows: their reading scores side by side.

Of the bridges of a training (its start, its checkpoints, means of two) the one that reads English best by tenths of a
nat mostly reads other languages best (docs/real-study.md, "When to stop").
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langbridge.data import Example, LabelledCollator
from langbridge.errors import LangBridgeError
from langbridge.markdown import table
from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.model.language_models import positions
from langbridge.model.reading import ReadingScore, of_like_length, reading_score

_NO_LIMIT = 4096
"""Tokens of a row where a model has no limit of its own."""


def score_bridge(
    model: LangBridgeModel,
    processor: LangBridgeProcessor,
    examples: Sequence[Example],
    *,
    batch_size: int = 8,
    progress: Callable[[int], object] = lambda rows: None,
) -> ReadingScore:
    """The reading score of a bridge on rows with targets, two at least, of which each is held against another.

    progress: told how many were read. Raises `LangBridgeError` for a row whose target does not fit behind its prompt.
    """
    collate = LabelledCollator(
        processor,
        max_encoder_length=model.encoder_length_limit or _NO_LIMIT,
        max_length=positions(model.language_model.config) or _NO_LIMIT,
    )
    for misfit in filter(None, collate.misfits(examples)):
        raise misfit
    # By characters, so that all bridges have the same rows together.
    lengths = [len(one.prompt) for one in examples]

    def batches() -> Iterator[dict[str, Any]]:
        for rows in of_like_length(lengths, max(1, len(examples) // max(batch_size, 2))):
            yield collate([examples[row] for row in rows])
            progress(len(rows))

    return reading_score(model, batches())


def side_by_side(scores: Mapping[str, ReadingScore]) -> str:
    """A table of bridges: score, loss behind the own prompt, and how far each is below the best by rows. Raises
    `LangBridgeError` where they cut the answers into other tokens, so that nats a token do not compare."""
    lengths = {name: [tokens for _, tokens in one.by_row] for name, one in scores.items()}
    first, *others = lengths
    if wrong := [name for name in others if lengths[name] != lengths[first]]:
        raise LangBridgeError(
            f"reading: {wrong[0]} cuts the answers into other tokens than {first}; expected bridges to one language "
            "model, in templates with the same end"
        )
    best = max(scores, key=lambda name: scores[name].score)
    rows = []
    for name, one in scores.items():
        less = "the best" if name == best else "{:+.3f} ± {:.3f}".format(*one.less(scores[best]))
        rows.append([name, f"{one.score:.3f} ± {one.error:.3f}", f"{one.own:.3f}", less])
    return table(["bridge", "reading score", "loss", "less the best"], rows)
