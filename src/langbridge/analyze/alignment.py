"""How language-agnostic states are, each number with its uncertainty.

States are (sentences, languages, width): one vector for each sentence in each language. Sentences are a sample, and
every uncertainty here is about them; the chosen languages are fixed. A sentence in many languages counts once.

Standard errors of variance, cosine and CKA are delete-one jackknives (Efron and Stein 1981): the number without each
sentence in turn. Those of retrieval and of the language probe are of the mean of one value a sentence, sd / sqrt(n):
the hits are fixed: leaving a sentence out does not change the candidates of the others, nor the probe's training data.

States are standardised first, as the paper does before its PCA: a few coordinates of a language model are some hundred
times larger than the others and would dominate every cosine and variance.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    stderr: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.stderr:.3f}"


@dataclass(frozen=True)
class Variance:
    """Shares of the variance of one state: of its language, of its sentence, and of what only this sentence in this
    language has. They add up to 1."""

    language: Estimate
    sentence: Estimate
    rest: Estimate


@dataclass(frozen=True)
class Retrieval:
    """The share of sentences whose nearest neighbour (cosine) in the other language is their translation."""

    to_pivot: Estimate
    from_pivot: Estimate


@dataclass(frozen=True)
class Cosine:
    """Mean cosines: of a sentence with its translation, with another sentence of the other language, and the gap."""

    parallel: Estimate
    random: Estimate
    gap: Estimate


def standardised(states: Array) -> Array:
    """Every coordinate with mean 0 and standard deviation 1 over all sentences and languages, in float64; one that is
    constant becomes 0."""
    states = states.astype(np.float64)
    flat = states.reshape(-1, states.shape[-1])
    scale = flat.std(axis=0)
    # Rounding errors of a constant are not spread.
    constant = scale <= 1e-6 * np.abs(flat).max(axis=0)
    scale[constant] = 1.0
    states -= flat.mean(axis=0)
    states /= scale
    states[..., constant] = 0.0
    return states


def jackknife(without_one: Array) -> Array:
    """The standard error of an estimate, of its values with each sentence left out: (sentences, ...) -> (...)."""
    n = len(without_one)
    spread = without_one - without_one.mean(axis=0)
    return np.sqrt((n - 1) / n * (spread**2).sum(axis=0))


def estimate(value: float, without_one: Array) -> Estimate:
    return Estimate(float(value), float(jackknife(without_one)))


def mean(values: Array) -> Estimate:
    """The mean of one value a sentence, with sd / sqrt(n)."""
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def variance(states: Array) -> Variance:
    """Two-way analysis of variance without replication, summed over coordinates.

    The components are estimated from the mean squares (Searle, Casella and McCulloch 1992, section 4.3), so that a
    share does not depend on how many sentences and languages were looked at: the plain share of the sum of squares
    would give the sentences of two languages one half of pure noise.

    A small component can be estimated below zero. It is reported as zero, with the shares taken of the rest; the errors
    are those before this clipping, after which every sample would give zero and an error of zero.
    """
    n, k, _ = states.shape
    by_sentence, by_language, total = states.sum(1), states.sum(0), states.sum((0, 1))
    # Squared norms of the sums, with all sentences (first) and without each of them.
    squares = (states**2).sum((1, 2))
    sentences = (by_sentence**2).sum(1)
    languages = (by_language**2).sum()
    crossed = np.einsum("skd,kd->s", states, by_language)
    grand = (total**2).sum() - 2 * by_sentence @ total + sentences
    parts = _components(
        np.append(squares.sum(), squares.sum() - squares),
        np.append(sentences.sum(), sentences.sum() - sentences),
        np.append(languages, languages - 2 * crossed + squares),
        np.append((total**2).sum(), grand),
        np.append(float(n), np.full(n, n - 1.0)),
        k,
    )
    told = _shares(np.maximum(parts[:, :1], 0.0))
    without_one = _shares(parts[:, 1:])
    return Variance(*(estimate(share[0], each) for share, each in zip(told, without_one, strict=True)))


def _components(squares: Array, sentences: Array, languages: Array, grand: Array, n: Array, k: int) -> Array:
    """Components of language, sentence and rest (3, ...), of either sign, from the sum of squares of all states, of
    the sums over languages, of the sums over sentences and of the grand sum."""
    middle = grand / (n * k)
    ss_language, ss_sentence = languages / n - middle, sentences / k - middle
    ss_rest = squares - middle - ss_language - ss_sentence
    ms_rest = ss_rest / ((n - 1) * (k - 1))
    return np.stack([(ss_language / (k - 1) - ms_rest) / n, (ss_sentence / (n - 1) - ms_rest) / k, ms_rest])


def _shares(parts: Array) -> Array:
    """Of the sum, which is at least ms_rest (1 - 1/n - 1/k) and so not below zero, whatever the signs of the parts;
    where there is no variance at all, 0."""
    whole = parts.sum(0)
    return np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0)


def _units(states: Array) -> Array:
    norms = np.linalg.norm(states, axis=-1, keepdims=True)
    return states / np.maximum(norms, np.finfo(float).tiny)


def retrieval_hits(states: Array, pivot: Array) -> tuple[Array, Array]:
    """Whether each sentence finds its translation: from a language (sentences, width) to the pivot, and back. The
    nearest of all sentences counts; a tie is a miss unless the translation alone is nearest."""
    cosines = _units(states) @ _units(pivot).T
    right = np.diag(cosines).copy()
    np.fill_diagonal(cosines, -np.inf)
    return right > cosines.max(1), right > cosines.max(0)


def retrieval(hits: list[tuple[Array, Array]]) -> Retrieval:
    """Of `retrieval_hits` in several languages: their mean."""
    to_pivot, from_pivot = (np.mean([pair[side] for pair in hits], axis=0) for side in (0, 1))
    return Retrieval(mean(to_pivot), mean(from_pivot))


def cosine(states: Array, pivot: Array) -> Cosine:
    """Of languages (sentences, languages, width) with the pivot (sentences, width), over all pairs: no pair is drawn,
    every one is counted."""
    n, k, _ = states.shape
    ours, theirs = _units(states).sum(1), _units(pivot)
    diagonal = (ours * theirs).sum(1)
    our_sum, their_sum = ours.sum(0), theirs.sum(0)
    everything = our_sum @ their_sum
    without = everything - ours @ their_sum - theirs @ our_sum + diagonal
    parallel = np.append(diagonal.sum(), diagonal.sum() - diagonal)
    pairs = np.append(everything, without)
    count = np.append(float(n), np.full(n, n - 1.0))
    same = parallel / (count * k)
    other = (pairs - parallel) / (count * (count - 1) * k)
    return Cosine(*(estimate(x[0], x[1:]) for x in (same, other, same - other)))


def cka(states: Array, pivot: Array) -> tuple[float, Array]:
    """Linear CKA of (sentences, width) and (sentences, other width), and its values with each sentence left out.

    Debiased: of the unbiased HSIC (Song et al. 2012, equation 5; Nguyen et al. 2021, arXiv 2010.15327). The plain
    CKA of unrelated states comes near 1 where they are wider than there are sentences; this one stays near 0, and
    may fall below it.
    """
    kernels = [_kernel(x) for x in (states, pivot)]
    shared = _hsic(*kernels)
    own = [_hsic(kernel, kernel) for kernel in kernels]
    norm = np.sqrt(np.maximum(own[0] * own[1], 0.0))
    values = np.divide(shared, norm, out=np.zeros_like(shared), where=norm > 0)
    return float(values[0]), values[1:]


def _kernel(states: Array) -> Array:
    centred = states - states.mean(0)
    kernel = centred @ centred.T
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _hsic(first: Array, second: Array) -> Array:
    """The unbiased HSIC of kernels without their diagonals, up to a factor: with all sentences, then without each."""
    n = len(first)
    rows, columns = first.sum(1), second.sum(1)
    product = first * second
    trace, trace_each = product.sum(), product.sum(1)
    # The sum over j of (rows_j - first_ji) (columns_j - second_ji), for every i, the i-th term left out.
    chain = rows @ columns
    chain_each = chain - rows * columns - first @ columns - second @ rows + trace_each
    traces = np.append(trace, trace - 2 * trace_each)
    chains = np.append(chain, chain_each)
    sums = np.append(rows.sum(), rows.sum() - 2 * rows) * np.append(columns.sum(), columns.sum() - 2 * columns)
    m = np.append(float(n), np.full(n, n - 1.0))
    return (traces + sums / ((m - 1) * (m - 2)) - 2 * chains / (m - 2)) / (m * (m - 3))
