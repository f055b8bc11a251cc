"""How good a bridge is: benchmarks, and scores that carry their standard error."""

from langbridge.evaluate.answers import last_number
from langbridge.evaluate.scores import Score, accuracy, difference
from langbridge.languages import LANGUAGE_GROUPS, group_of

__all__ = ["LANGUAGE_GROUPS", "Score", "accuracy", "difference", "group_of", "last_number"]
