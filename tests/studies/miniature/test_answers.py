"""Errors of problems and seeds against closed forms; verdicts follow intervals; rank correlation is scipy's."""

import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy import stats

from studies.miniature.answers import Claim, Estimate, NotCompared, gain, holm, mean_of
from studies.miniature.encoders import PREDICTORS, Quality, Ranked


def answers(rows: dict[str, list[float]]) -> dict[tuple[str, str], float]:
    """By language, the marks of problems p0, p1, ..."""
    return {(f"p{i}", language): mark for language, marks in rows.items() for i, mark in enumerate(marks)}


def test_one_seed_and_one_language_is_the_ordinary_mean_with_its_error() -> None:
    marks = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    found = mean_of([answers({"sw": marks})], ["sw"])
    assert found.value == pytest.approx(fmean(marks))
    assert found.stderr == pytest.approx(stdev(marks) / math.sqrt(6))
    assert found.freedom == pytest.approx(5)
    low, high = found.interval
    reach = found.stderr * stats.t.ppf(0.975, 5)
    assert (low, high) == pytest.approx((found.value - reach, min(found.value + reach, 1)))


def test_seeds_add_their_spread_to_that_of_the_problems() -> None:
    """The crossed analysis of variance, by hand: what a seed does to single problems is in both parts, and counts
    once."""
    marks = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = mean_of([answers({"sw": row.tolist()}) for row in marks], ["sw"])
    of_problems = stdev([1.0, 0.5, 0.5, 0.0]) ** 2 / 4
    of_seeds = stdev([0.75, 0.25]) ** 2 / 2
    rest = marks - marks.mean(0) - marks.mean(1, keepdims=True) + marks.mean()
    of_both = (rest**2).sum() / (1 * 3) / 8
    assert found.stderr == pytest.approx(math.sqrt(of_problems + of_seeds - of_both))
    # Welch and Satterthwaite: three degrees of freedom from four problems, one from two seeds, three from both.
    freedom = found.stderr**4 / (of_problems**2 / 3 + of_seeds**2 / 1 + of_both**2 / 3)
    assert found.freedom == pytest.approx(freedom)


def test_seeds_that_do_nothing_to_a_problem_leave_its_error_alone() -> None:
    """Marks drawn anew for each seed, with no effect of a seed as a whole: the error is about that of all the draws. It
    is never below that of problems or seeds alone, and so errs on the wide side; counted twice it would be double."""
    rng = np.random.default_rng(3)
    errors, means = [], []
    for _ in range(300):
        marks = (rng.random((3, 40)) < 0.5).astype(float)
        found = mean_of([answers({"sw": row.tolist()}) for row in marks], ["sw"])
        errors.append(found.stderr**2)
        means.append(found.value)
    assert 0.85 < fmean(errors) / np.var(means) < 1.6  # 300 draws know a variance to 8 per cent


def test_a_problem_in_two_languages_is_one_problem() -> None:
    marks = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    twice = mean_of([answers({"sw": marks, "te": marks})], ["sw", "te"])
    assert twice.stderr == pytest.approx(mean_of([answers({"sw": marks})], ["sw"]).stderr)


def test_differences_pair_the_problems() -> None:
    """Two systems that fail on the same problems differ by a constant: nothing is left of the problems' error."""
    hard = [0.0, 1.0] * 10
    same = gain([answers({"sw": hard})], [answers({"sw": hard})], ["sw"])
    assert (same.value, same.stderr, same.side, same.p) == (0, 0, 0, 1)
    better = gain([answers({"sw": [1.0] * 20})], [answers({"sw": hard})], ["sw"])
    assert better.value == pytest.approx(0.5)
    assert better.stderr == pytest.approx(stdev(hard) / math.sqrt(20))


def test_the_same_runs_asked_twice_are_paired_by_seed() -> None:
    """Seeds far apart, each better by the same: what parts the seeds says nothing of the difference."""
    before = [answers({"sw": [1.0] * n + [0.0] * (20 - n)}) for n in (2, 8, 14)]
    after = [answers({"sw": [1.0] * (n + 4) + [0.0] * (16 - n)}) for n in (2, 8, 14)]
    paired, apart = gain(after, before, ["sw"], same_runs=True), gain(after, before, ["sw"])
    assert paired.value == apart.value == pytest.approx(0.2)
    over_problems = [fmean(a[key] - b[key] for a, b in zip(after, before, strict=True)) for key in before[0]]
    assert paired.stderr == pytest.approx(stdev(over_problems) / math.sqrt(20))
    assert apart.stderr > 2 * paired.stderr
    one_way = [answers({"sw": [1.0] * 20}), answers({"sw": [0.0] * 20})]
    spread = gain(one_way, [one_way[1]] * 2, ["sw"], same_runs=True)
    assert spread.stderr == pytest.approx(math.sqrt(stdev([1, 0]) ** 2 / 2)), "seeds that differ in the gain count"
    assert spread.interval == (-1, 1), "no more than a difference of shares can be"


def test_only_problems_that_both_were_asked_count() -> None:
    found = gain([answers({"sw": [1.0, 1.0, 1.0]})], [answers({"sw": [0.0, 0.0]})], ["sw"])
    assert (found.value, found.freedom) == (1.0, 1)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Problems and seeds drawn anew 400 times: the true share lies in the 95 per cent interval as often as it should.
    The binomial error of 400 is 1.1 points; with three seeds the interval errs on the wide side."""
    rng, covered, n = random.Random(5), 0, 400
    for _ in range(n):
        problems = [rng.gauss(0, 0.25) for _ in range(60)]
        seeds = [rng.gauss(0, 0.05) for _ in range(3)]
        runs = [answers({"sw": [float(rng.random() < min(1, max(0, 0.5 + p + s))) for p in problems]}) for s in seeds]
        low, high = mean_of(runs, ["sw"]).interval
        covered += low <= 0.5 <= high
    assert 0.93 <= covered / n <= 0.995, covered / n


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.2, "holds"), (-0.2, "does not hold: the opposite does"), (0.01, "not shown")]
)
def test_a_verdict_is_what_the_interval_says(value: float, verdict: str) -> None:
    claim = Claim("It lifts", "Bridge over the model alone", Estimate(value, 0.02, 50))
    assert claim.verdict == verdict
    assert claim.said().startswith(f"It lifts: **{verdict}** in miniature.")
    assert f"{100 * value:+.1f} points" in claim.said()


def test_p_is_below_05_where_the_interval_leaves_out_zero() -> None:
    for value in (0.01, 0.03, 0.05, 0.2):
        found = Estimate(value, 0.02, 7)
        assert (found.p < 0.05) == (found.interval[0] > 0)


def test_the_primary_claim_is_judged_alone_and_the_others_together() -> None:
    """Holm's by hand: of .01, .02, .04 the first three times, the second twice, the third once and no less than it."""

    def at(p: float) -> Estimate:
        return Estimate(float(stats.norm.isf(p / 2)), 1.0, 1e9)

    claims = [Claim("first", "", at(0.04), primary=True), Claim("a", "", at(0.02)), Claim("b", "", at(0.01)),
              Claim("c", "", NotCompared("nothing")), Claim("d", "", at(0.04))]  # fmt: skip
    judged = holm(claims)
    assert [claim.text for claim in judged] == [claim.text for claim in claims]
    assert [claim.p for claim in judged] == pytest.approx([0.04, 0.04, 0.03, math.nan, 0.04], rel=1e-3, nan_ok=True)
    assert [claim.verdict for claim in judged] == ["holds", "holds", "holds", "not compared", "holds"]
    assert holm([*claims, *[Claim("more", "", at(0.5))] * 5])[2].verdict == "not shown"


def test_nothing_is_chosen_at_the_floor() -> None:
    assert mean_of([answers({"en": [0.0] * 40})], ["en"]).at_floor
    assert mean_of([answers({"en": [1.0] * 2 + [0.0] * 38})], ["en"]).at_floor
    assert not mean_of([answers({"en": [1.0] * 20 + [0.0] * 20})], ["en"]).at_floor


def test_one_problem_shows_nothing() -> None:
    found = gain([answers({"sw": [1.0]})], [answers({"sw": [0.0]})], ["sw"])
    assert math.isnan(found.stderr)
    assert math.isnan(found.p)
    assert Claim("It lifts", "", found).verdict == "not shown"


def ranked(numbers: list[float], accuracies: list[float]) -> Ranked:
    name = next(iter(PREDICTORS))
    return Ranked(
        [
            Quality(f"step-{i}", {name: (number, 0.1)}, Estimate(accuracy, 0.01, 50), Estimate(accuracy, 0.1, 50))
            for i, (number, accuracy) in enumerate(zip(numbers, accuracies, strict=True))
        ],
        name,
    )


def test_rank_correlation_is_scipys_ties_included() -> None:
    numbers, accuracies = [0.1, 0.4, 0.4, 0.7, 0.9, 0.2], [0.0, 0.3, 0.5, 0.5, 0.6, 0.1]
    assert ranked(numbers, accuracies).value == pytest.approx(stats.spearmanr(numbers, accuracies).statistic)


def test_the_p_of_a_rank_correlation_is_exact() -> None:
    """Of n encoders in perfect order, two of n! orders are as far from none."""
    for n in (4, 5, 6):
        rising = [0.1 * place for place in range(n)]
        assert ranked(rising, rising).p == pytest.approx(2 / math.factorial(n))
        assert ranked(rising, rising[::-1]).side == -1


def test_a_number_that_never_changes_foretells_nothing() -> None:
    constant = ranked([1.0] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert (constant.value, constant.side, constant.p) == (0, 0, 1)
