"""What tells two models apart, however they are called and wherever they lie."""

import hashlib
from typing import Any

import torch

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
        flat = parameter.detach().flatten()
        if flat.numel() > _WHOLE:
            flat = flat[torch.linspace(0, flat.numel() - 1, _SAMPLED, device=flat.device).long()]
        kept = flat.float() if flat.is_floating_point() else flat
        digest.update(kept.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
