"""pass@k from n samples a problem.

Chen et al. 2021, *Evaluating Large Language Models Trained on Code*, arXiv 2107.03374, section 2.1.
"""

import math
from collections.abc import Iterable

from langbridge.errors import LangBridgeError
from langbridge.evaluate.scores import Score, mean_score


def pass_at_k(counts: Iterable[tuple[int, int]], k: int) -> Score:
    """The unbiased estimate of the chance that at least one of k samples passes.

    `counts` are (samples, of these passed) of each problem; the score is the mean over problems of
    1 - C(n - c, k) / C(n, k), with the standard error of that mean. Needs k samples of every problem.
    """
    values = []
    for n, c in counts:
        if not 1 <= k <= n or not 0 <= c <= n:
            raise LangBridgeError(
                f"pass@{k}: expected at least {max(k, 1)} samples of a problem, got {n} with {c} passed"
            )
        # The quotient of the binomials as a product that neither overflows nor cancels.
        values.append(1.0 - math.prod((n - c - i) / (n - i) for i in range(k)))
    return mean_score(values)
