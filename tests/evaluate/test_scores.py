"""Scores whose standard errors are checked by hand and by simulation."""

import math
import random

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate import LANGUAGE_GROUPS, accuracy, difference, group_of


def test_accuracy_has_the_sample_standard_error() -> None:
    score = accuracy([True, True, True, False])
    assert (score.mean, score.n) == (0.75, 4)
    assert score.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    assert str(score) == "0.750 ± 0.250 (n=4)"


def test_accuracy_of_all_right_has_no_spread_and_one_answer_has_an_unknown_one() -> None:
    assert accuracy([True] * 5).stderr == 0
    assert math.isnan(accuracy([True]).stderr)
    with pytest.raises(LangBridgeError, match="at least one answer"):
        accuracy([])


def test_standard_error_is_the_spread_of_repeated_measurements() -> None:
    draw = random.Random(0)
    scores = [accuracy([draw.random() < 0.3 for _ in range(200)]) for _ in range(400)]
    mean = sum(score.mean for score in scores) / len(scores)
    spread = math.sqrt(sum((score.mean - mean) ** 2 for score in scores) / (len(scores) - 1))
    # 400 repetitions know their own spread to 1/sqrt(800), so 4%; three times that is allowed.
    assert scores[0].stderr == pytest.approx(spread, rel=0.12)


def test_difference_is_paired() -> None:
    first, second = [True, True, False, False], [True, False, False, False]
    score = difference(first, second)
    assert score.mean == 0.25
    assert score.stderr == pytest.approx(0.25)
    assert difference(first, first) == accuracy([False] * 4), "the same answers differ by nothing, for certain"
    with pytest.raises(LangBridgeError, match="got 4 and 3"):
        difference(first, second[:3])


def test_language_groups() -> None:
    assert LANGUAGE_GROUPS == {
        "high": ("en", "es", "fr", "de", "ru", "zh", "ja"),
        "low": ("th", "sw", "bn", "te", "ko"),
    }
    assert group_of("zh-Hant") == group_of("ZH_tw") == "high"
    assert group_of("yo") == "low"
    with pytest.raises(LangBridgeError, match="expected a code such as 'sw'"):
        group_of("Swahili")
