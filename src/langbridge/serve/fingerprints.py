"""What tells two models apart, however they are called and wherever they lie."""

import hashlib
from typing import Any

from langbridge.model.bases import spread_values

_WHOLE, _SAMPLED = 1 << 20, 1 << 10
"""A tensor up to the first size counts in full, a larger one by so many values spread over it: training that reaches
a tensor moves nearly all of its values, and reading billions of them would take longer than the questions."""


def model_fingerprint(model: Any) -> str:
    """A hash over the names, shapes and values of a model's parameters, in whatever precision they are loaded."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype};".encode())
        if parameter.is_meta:
            continue
        values = spread_values(parameter, parameter.numel() if parameter.numel() <= _WHOLE else _SAMPLED)
        kept = values.float() if values.is_floating_point() else values
        digest.update(kept.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
