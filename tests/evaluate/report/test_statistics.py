"""Averages and differences against closed forms, scipy, and simulated benchmarks whose true error is known."""

import math

import numpy as np
import pytest
from scipy import stats

from langbridge.errors import LangBridgeError
from langbridge.evaluate.report.statistics import average, bootstrap, differences

LANGUAGES = ["en", "sw", "te"]


def values(table: np.ndarray, languages: list[str] = LANGUAGES) -> dict[tuple[str, str], float]:
    """A (questions, languages) table as the report has it; NaN where there is no answer."""
    return {
        (f"q{row}", language): float(table[row, column])
        for row in range(len(table))
        for column, language in enumerate(languages)
        if not math.isnan(table[row, column])
    }


def simulated(generator: np.random.Generator, questions: int, languages: int = 3) -> np.ndarray:
    """0 and 1, where a question that is hard in one language is hard in the others."""
    ease = generator.normal(0.5, 0.3, size=(questions, 1))
    return (generator.random((questions, languages)) < ease).astype(float)


def test_one_language_has_the_ordinary_error() -> None:
    marks = np.array([[1.0], [0.0], [0.0], [1.0], [1.0]])
    score = average(values(marks, ["sw"]), ["sw"])
    assert (score.mean, score.n) == (0.6, 5)
    assert score.stderr == pytest.approx(math.sqrt(0.6 * 0.4 / 4))
    assert score.stderr == pytest.approx(stats.sem(marks[:, 0]))


def test_the_same_questions_in_every_language_have_the_error_of_their_means() -> None:
    table = simulated(np.random.default_rng(0), 50)
    score = average(values(table), LANGUAGES)
    assert score.mean == pytest.approx(table.mean())
    # With all questions in all languages, clustering by question is the error of the questions' own means.
    assert score.stderr == pytest.approx(stats.sem(table.mean(axis=1)))
    assert score.n == 50, "questions, not answers"


def test_languages_that_only_copy_one_another_add_no_precision() -> None:
    one = simulated(np.random.default_rng(1), 40, languages=1)
    alone, copied = average(values(one, ["en"]), ["en"]), average(values(np.repeat(one, 3, axis=1)), LANGUAGES)
    assert (copied.mean, copied.stderr, copied.n) == pytest.approx((alone.mean, alone.stderr, alone.n))


def test_every_language_weighs_the_same_and_missing_answers_are_not_wrong_ones() -> None:
    table = np.array([[1.0, 0.0], [1.0, math.nan], [0.0, math.nan], [1.0, 1.0]])
    score = average(values(table, ["en", "sw"]), ["en", "sw"])
    assert score.mean == pytest.approx((0.75 + 0.5) / 2)
    # Residuals by question, (y - mean) / (n of the language * 2), summed over languages; n / (n - 1) times squares.
    parts = [0.25 / 8 - 0.5 / 4, 0.25 / 8, -0.75 / 8, 0.25 / 8 + 0.5 / 4]
    assert score.stderr == pytest.approx(math.sqrt(4 / 3 * sum(part**2 for part in parts)))


def test_the_error_is_that_of_repeated_benchmarks() -> None:
    """Of 600 simulated benchmarks: the spread of their averages, against the errors that they state."""
    generator = np.random.default_rng(2)
    scores = [average(values(simulated(generator, 60)), LANGUAGES) for _ in range(600)]
    spread = float(np.std([score.mean for score in scores], ddof=1))
    stated = float(np.mean([score.stderr for score in scores]))
    # A standard deviation of 600 draws is itself known to 1 / sqrt(1200), 3 per cent; three of those.
    assert stated == pytest.approx(spread, rel=0.09)
    # Taken as 180 independent answers, the same benchmarks would promise far too much.
    independent = float(np.mean([math.sqrt(score.mean * (1 - score.mean) / 180) for score in scores]))
    assert independent < 0.85 * spread


def test_a_difference_is_paired() -> None:
    generator = np.random.default_rng(3)
    first, second = simulated(generator, 80), simulated(generator, 80)
    second[:40] = first[:40]
    found = differences(values(first), values(second))
    score = average(found, ["sw"])
    assert score.mean == pytest.approx((first[:, 1] - second[:, 1]).mean())
    # scipy's paired t statistic is the mean difference over its standard error.
    assert score.mean / score.stderr == pytest.approx(stats.ttest_rel(first[:, 1], second[:, 1]).statistic)
    whole = average(found, LANGUAGES)
    assert whole.stderr == pytest.approx(stats.sem((first - second).mean(axis=1)))


def test_a_difference_is_of_what_both_runs_have() -> None:
    found = differences({("a", "en"): 1.0, ("b", "en"): 1.0}, {("b", "en"): 0.0, ("c", "en"): 1.0})
    assert found == {("b", "en"): 1.0}


def test_the_bootstrap_agrees_with_scipy() -> None:
    table = simulated(np.random.default_rng(4), 120)
    ours = bootstrap(values(table), LANGUAGES)
    theirs = stats.bootstrap(
        (table.mean(axis=1),), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    # Percentiles of 10,000 draws of a mean whose error is .036: they vary by about .001 from seed to seed.
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_the_bootstrap_is_reproducible_and_narrows_with_the_level() -> None:
    found = values(simulated(np.random.default_rng(6), 60))
    wide, again, narrow = (
        bootstrap(found, LANGUAGES),
        bootstrap(found, LANGUAGES),
        bootstrap(found, LANGUAGES, level=0.5),
    )
    assert wide == again
    assert wide.low < narrow.low < average(found, LANGUAGES).mean < narrow.high < wide.high


def test_the_bootstrap_is_the_same_from_release_to_release() -> None:
    """The figures are those of draws made anew for every interval, before they were shared."""
    found = values(simulated(np.random.default_rng(8), 40))
    for _ in range(2):
        intervals = [bootstrap(found, languages) for languages in (["en"], ["sw"], LANGUAGES)]
        assert [(one.low, one.high) for one in intervals] == [
            (0.275, 0.575), (0.425, 0.725), (0.34166666666666673, 0.6083333333333333),
        ]  # fmt: skip


def test_the_bootstrap_covers_what_it_promises() -> None:
    """The truth, .5 by symmetry, lies in 95 per cent of the intervals: of 200, between 179 and 199 in all but one case
    of a thousand (binomial), and a little less for a percentile interval of 60 questions."""
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(200):
        interval = bootstrap(values(simulated(generator, 60)), LANGUAGES, resamples=1000)
        inside += interval.low <= 0.5 <= interval.high
    assert 176 <= inside <= 199


def test_the_bootstrap_bears_a_language_with_few_questions() -> None:
    table = np.full((30, 2), 0.5)
    table[1:, 1] = math.nan
    interval = bootstrap(values(table, ["en", "sw"]), ["en", "sw"])
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_a_single_question_has_no_error() -> None:
    assert math.isnan(average({("q", "en"): 1.0}, ["en"]).stderr)


def test_an_average_needs_every_language_it_names() -> None:
    with pytest.raises(LangBridgeError, match="an average over en, sw: no scores in sw"):
        average({("q", "en"): 1.0}, ["en", "sw"])
