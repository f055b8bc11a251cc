"""How well a linear probe identifies the language from states. Chance, 1 / number of languages, is ideal."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from langbridge.analyze.alignment import Array, Estimate, mean
from langbridge.errors import LangBridgeError

FOLDS = 5
PENALTY = 0.01
"""Of the ridge regression, for each training text; on standardised states."""


@dataclass(frozen=True)
class Probe:
    """Cross-validated accuracy of a language probe over all languages, and language by language."""

    accuracy: Estimate
    by_language: tuple[Estimate, ...]
    chance: float


def language_probe(states: Array) -> Probe:
    """A ridge classifier on states (sentences, languages, width), with whole sentences held out.

    The folds part sentences, so the probe is never asked about a sentence that it saw in another language. The
    standard error is that of the mean over sentences; it ignores that folds share most of their training data.
    """
    linear_model, model_selection = scikit_learn("linear_model"), scikit_learn("model_selection")
    n, k, width = states.shape
    right = np.zeros((n, k))
    for train, test in model_selection.KFold(FOLDS).split(np.arange(n)):
        classifier = linear_model.RidgeClassifier(alpha=PENALTY * len(train) * k)
        classifier.fit(states[train].reshape(-1, width), np.tile(np.arange(k), len(train)))
        found = classifier.predict(states[test].reshape(-1, width)).reshape(len(test), k)
        right[test] = found == np.arange(k)
    return Probe(mean(right.mean(1)), tuple(mean(right[:, language]) for language in range(k)), 1 / k)


def scikit_learn(module: str) -> Any:
    """`sklearn.MODULE`, or the error that says how to install it."""
    try:
        import sklearn

        return importlib.import_module(f"{sklearn.__name__}.{module}")
    except ImportError as error:
        raise missing("scikit-learn") from error


def missing(package: str) -> LangBridgeError:
    """The error of a package that only the extra brings."""
    return LangBridgeError(f"this analysis needs {package}: install it with  pip install 'langbridge[analyze]'")
