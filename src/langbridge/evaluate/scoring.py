"""How probable texts are, from the logits at their tokens."""

import torch


def per_row(logits: torch.Tensor, tokens: torch.Tensor, counts: list[int]) -> list[tuple[float, bool]]:
    """Sums and greediness by row, from (tgt, vocab) logits and (tgt) tokens laid end to end."""
    values = logits.float().log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
    greedy = logits.argmax(-1) == tokens
    pairs = zip(values.split(counts), greedy.split(counts), strict=True)
    return [(float(value.sum()), bool(hit.all())) for value, hit in pairs]
