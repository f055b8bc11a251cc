"""Every number against a closed form, scikit-learn or a plain loop, and every error against brute force."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from langbridge.analyze import alignment
from langbridge.analyze.probe import language_probe

SENTENCES, LANGUAGES, WIDTH = 24, 4, 7


def made(
    language: float, sentence: float, rest: float, seed: int = 0, shape: tuple[int, int, int] = (24, 4, 7)
) -> np.ndarray:
    """States with known variances of language, sentence and rest."""
    rng = np.random.default_rng(seed)
    n, k, d = shape
    return (
        np.sqrt(language) * rng.normal(size=(1, k, d))
        + np.sqrt(sentence) * rng.normal(size=(n, 1, d))
        + np.sqrt(rest) * rng.normal(size=(n, k, d))
    )


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    return made(0.5, 2.0, 1.0)


def brute_jackknife(states: np.ndarray, number) -> float:
    values = np.array([number(np.delete(states, i, axis=0)) for i in range(len(states))])
    n = len(values)
    return float(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()))


def test_standardised_is_scikit_learns_scaler_and_silences_constants(states: np.ndarray) -> None:
    states = states.copy()
    states[..., 3] = 0.1  # constant
    expected = StandardScaler().fit_transform(states.reshape(-1, WIDTH)).reshape(states.shape)
    ours = alignment.standardised(states.astype(np.float32))
    np.testing.assert_allclose(np.delete(ours, 3, -1), np.delete(expected, 3, -1), atol=1e-5)  # float32 came in
    assert (ours[..., 3] == 0).all()


def regression_components(states: np.ndarray) -> np.ndarray:
    """Language, sentence and rest, whatever their signs: the sums of squares of the two factors are what regressions
    on their indicators explain."""
    n, k, width = states.shape
    flat = states.reshape(-1, width)
    total = ((flat - flat.mean(0)) ** 2).sum()

    def explained(labels: np.ndarray) -> float:
        indicators = np.eye(labels.max() + 1)[labels]
        return float(((LinearRegression().fit(indicators, flat).predict(indicators) - flat.mean(0)) ** 2).sum())

    language = explained(np.tile(np.arange(k), n))
    sentence = explained(np.repeat(np.arange(n), k))
    rest = (total - language - sentence) / ((n - 1) * (k - 1))
    return np.array([(language / (k - 1) - rest) / n, (sentence / (n - 1) - rest) / k, rest])


def test_components_come_from_the_sums_of_squares_of_a_regression(states: np.ndarray) -> None:
    parts = regression_components(states)
    found = alignment.variance(states)
    ours = [found.language.value, found.sentence.value, found.rest.value]
    np.testing.assert_allclose(ours, parts / parts.sum(), rtol=1e-9)


def test_known_variances_are_found_whatever_the_number_of_languages() -> None:
    # Shares 1/6, 3/6, 2/6; 400 coordinates make the two languages of the first case enough of a sample: the relative
    # standard deviation of a variance from one degree of freedom in each of 400 coordinates is sqrt(2 / 400) = 7 %.
    for shape in ((60, 2, 400), (60, 12, 400)):
        found = alignment.variance(made(1.0, 3.0, 2.0, seed=1, shape=shape))
        assert found.language.value == pytest.approx(1 / 6, abs=0.03)
        assert found.sentence.value == pytest.approx(3 / 6, abs=0.03)
        assert found.rest.value == pytest.approx(2 / 6, abs=0.03)


def test_noise_has_neither_language_nor_sentence() -> None:
    found = alignment.variance(made(0.0, 0.0, 1.0, seed=2, shape=(50, 2, 300)))
    assert found.language.value < 0.01
    assert found.sentence.value < 0.02
    assert found.rest.value > 0.97


def test_variance_errors_are_those_of_leaving_sentences_out(states: np.ndarray) -> None:
    found = alignment.variance(states)
    for name in ("language", "sentence", "rest"):
        brute = brute_jackknife(states, lambda x, name=name: getattr(alignment.variance(x), name).value)
        assert getattr(found, name).stderr == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_share_that_is_cut_at_zero_keeps_its_error(seed: int) -> None:
    """In noise a component comes out below zero as often as above. What is told is 0 then, and its error is that of the
    share before the cut; after it every sentence left out would give 0, and the error too."""
    noise = made(0.0, 0.0, 1.0, seed=seed)
    parts = regression_components(noise)
    assert parts.min() < 0, "or there would be nothing to cut"
    found = alignment.variance(noise)
    ours = {"language": found.language, "sentence": found.sentence, "rest": found.rest}
    cut = np.maximum(parts, 0)
    for i, (name, one) in enumerate(ours.items()):
        assert one.value == pytest.approx(cut[i] / cut.sum(), rel=1e-9), name

        def share(states: np.ndarray, i: int = i) -> float:
            parts = regression_components(states)
            return float(parts[i] / parts.sum())

        assert one.stderr == pytest.approx(brute_jackknife(noise, share), rel=1e-6), name
        assert one.stderr > 0.001, name


def test_the_error_of_a_cut_share_is_its_spread_over_samples() -> None:
    """Sentences without a share of their own, in four languages: over samples of sentences the uncut share has a
    spread, and the errors that single samples tell are near it."""
    rng = np.random.default_rng(8)
    languages = rng.normal(size=(1, 4, 30))
    shares, errors = [], []
    for _ in range(200):
        states = languages + rng.normal(size=(40, 4, 30))
        parts = regression_components(states)
        shares.append(parts[1] / parts.sum())
        errors.append(alignment.variance(states).sentence.stderr)
    assert np.mean(np.array(shares) < 0) > 0.3
    # 200 draws tell a standard deviation to 1 / sqrt(400) = 5 %; a jackknife is a little too large (Efron and Stein).
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.15)


def test_states_without_any_variance_have_no_shares() -> None:
    found = alignment.variance(np.zeros((12, 3, 5)))
    assert {(one.value, one.stderr) for one in (found.language, found.sentence, found.rest)} == {(0.0, 0.0)}


def test_the_jackknife_agrees_with_a_bootstrap_over_sentences() -> None:
    states = made(0.5, 2.0, 1.0, seed=3, shape=(150, 4, 7))
    rng = np.random.default_rng(0)
    values = [alignment.variance(states[rng.integers(0, 150, 150)]).language.value for _ in range(400)]
    # A standard deviation of 400 draws is known to 1 / sqrt(800) = 3.5 %; the two estimators differ by O(1/150).
    assert alignment.variance(states).language.stderr == pytest.approx(float(np.std(values)), rel=0.15)


def test_retrieval_is_a_plain_nearest_neighbour(states: np.ndarray) -> None:
    cosines = cosine_similarity(states[:, 1], states[:, 0])
    to_pivot, from_pivot = alignment.retrieval_hits(states[:, 1], states[:, 0])
    np.testing.assert_array_equal(to_pivot, cosines.argmax(1) == np.arange(SENTENCES))
    np.testing.assert_array_equal(from_pivot, cosines.argmax(0) == np.arange(SENTENCES))
    assert 0 < to_pivot.mean() < 1, "or the comparison would prove little"
    same = alignment.retrieval_hits(np.ones((5, 3)), np.ones((5, 3)))
    assert not same[0].any(), "where all are alike, none is found"


def test_retrieval_counts_a_sentence_once_however_many_languages(states: np.ndarray) -> None:
    one = alignment.retrieval_hits(states[:, 1], states[:, 0])
    assert alignment.retrieval([one]) == alignment.retrieval([one, one, one])
    hits = one[0].astype(float)
    assert alignment.retrieval([one]).to_pivot.stderr == pytest.approx(brute_jackknife(hits, np.mean))


def test_cosines_are_those_of_all_pairs(states: np.ndarray) -> None:
    others, pivot = states[:, 1:], states[:, 0]

    def brute(x: np.ndarray) -> tuple[float, float]:
        all_pairs = [cosine_similarity(x[:, language], x[:, 0]) for language in range(1, LANGUAGES)]
        off = ~np.eye(len(x), dtype=bool)
        return float(np.mean([np.diag(p) for p in all_pairs])), float(np.mean([p[off] for p in all_pairs]))

    found = alignment.cosine(others, pivot)
    assert (found.parallel.value, found.random.value) == pytest.approx(brute(states))
    assert found.gap.value == pytest.approx(found.parallel.value - found.random.value)
    assert found.parallel.stderr == pytest.approx(brute_jackknife(states, lambda x: brute(x)[0]))
    assert found.random.stderr == pytest.approx(brute_jackknife(states, lambda x: brute(x)[1]))
    assert found.gap.stderr == pytest.approx(brute_jackknife(states, lambda x: brute(x)[0] - brute(x)[1]))


def brute_hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Song et al. 2012, equation 5, written as it stands there."""
    m = len(first)
    first, second = first - np.diag(np.diag(first)), second - np.diag(np.diag(second))
    one = np.ones(m)
    sums = (one @ first @ one) * (one @ second @ one) / ((m - 1) * (m - 2))
    return (np.trace(first @ second) + sums - 2 / (m - 2) * one @ first @ second @ one) / (m * (m - 3))


def brute_cka(first: np.ndarray, second: np.ndarray) -> float:
    k, l = first @ first.T, second @ second.T  # noqa: E741
    return brute_hsic(k, l) / float(np.sqrt(brute_hsic(k, k) * brute_hsic(l, l)))


def test_cka_is_the_debiased_one(states: np.ndarray) -> None:
    value, without_one = alignment.cka(states[:, 1], states[:, 0])
    assert value == pytest.approx(brute_cka(states[:, 1], states[:, 0]))
    for i in (0, 5, SENTENCES - 1):
        rest = np.delete(states, i, axis=0)
        assert without_one[i] == pytest.approx(brute_cka(rest[:, 1], rest[:, 0]))


def test_cka_of_known_cases() -> None:
    rng = np.random.default_rng(4)
    first, other = rng.normal(size=(40, 300)), rng.normal(size=(40, 300))
    rotation = np.linalg.qr(rng.normal(size=(300, 300)))[0]
    assert alignment.cka(first, 3.0 * first @ rotation + 1.0)[0] == pytest.approx(1.0)
    # Unrelated, and much wider than there are sentences: the plain CKA of these is 0.88.
    assert abs(alignment.cka(first, other)[0]) < 0.1
    assert alignment.cka(np.ones((10, 3)), first[:10])[0] == 0.0


def test_a_probe_finds_what_is_there_and_nothing_else() -> None:
    with_language = alignment.standardised(made(1.0, 1.0, 0.2, seed=5, shape=(60, 4, 20)))
    without = alignment.standardised(made(0.0, 1.0, 1.0, seed=5, shape=(60, 4, 20)))
    sure, blind = language_probe(with_language), language_probe(without)
    assert sure.accuracy.value > 0.95
    assert blind.chance == 0.25
    assert abs(blind.accuracy.value - 0.25) < 4 * blind.accuracy.stderr
    assert np.mean([one.value for one in sure.by_language]) == pytest.approx(sure.accuracy.value)


def test_a_probe_cannot_remember_sentences() -> None:
    """Equal states in all languages: a probe that saw a test sentence could do no better, one that guesses neither."""
    same = np.repeat(np.random.default_rng(6).normal(size=(40, 1, 30)), 3, axis=1)
    assert language_probe(same).accuracy.value == pytest.approx(1 / 3)
