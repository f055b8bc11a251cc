"""What the language model is given in place of a bridge's soft prompts.

snapped         of each soft prompt the language model's own nearest embedding, by distance
snapped-cosine  the same by angle
moved           its own embeddings of the problem as text, each moved in a random direction, as far as this bridge's
                soft prompts lie from their nearest embeddings

Nearest are rows that stand for text, so not the placeholder's. The end vector is left alone: it was learned, stands for
no text, and says where the prompt ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from langbridge.miniature import world
from langbridge.model import LangBridgeModel, LangBridgeProcessor, Memory
from langbridge.serve.hf import HFEngine
from studies.miniature.mixture import text_rows
from studies.real.starts import soft_prompts

EXACT = "donot_use_mm_for_euclid_dist"
"""Distances of torch that are right to the last digits: of two rows nearly as near the nearer one is found."""
PROBLEMS = 100
"""English validation problems whose soft prompts say how far they are from the nearest embeddings."""


@contextmanager
def altered(
    engine: HFEngine, how: Literal["snapped", "snapped-cosine", "moved"], bridge: Path, seed: int
) -> Iterator[None]:
    """Within, `engine` is a bridge's with snapped soft prompts, or the language model's with moved embeddings."""
    model: Any = engine.model
    table = text_rows(model.get_input_embeddings().weight.detach(), engine.reader.tokenizer)
    far = distances(bridge, table) if how == "moved" else torch.empty(0)
    generator = torch.Generator().manual_seed(seed)

    def snap(_: Any, __: Any, found: Memory) -> Memory:
        soft = found.soft_prompts
        flat = soft[:, :-1].float().flatten(0, 1)
        if how == "snapped-cosine":
            nearest = (normalize(flat, dim=1) @ normalize(table, dim=1).T).argmax(-1)
        else:
            nearest = torch.cdist(flat, table, compute_mode=EXACT).argmin(-1)
        own = table[nearest].reshape(soft[:, :-1].shape).to(soft.dtype)
        return found._replace(soft_prompts=torch.cat([own, soft[:, -1:]], dim=1))

    def move(_: Any, __: Any, found: Tensor) -> Tensor:
        if found.shape[1] == 1:  # a token of the answer
            return found
        by = far[torch.randint(len(far), found.shape[:2], generator=generator)]
        return found + normalize(torch.randn(found.shape, generator=generator), dim=-1) * by[..., None]

    part, hook = (model.get_input_embeddings(), move) if how == "moved" else (model.connector, snap)
    handle = part.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def distances(bridge: Path, table: Tensor) -> Tensor:
    """Of a bridge's soft prompts of English validation problems from the nearest rows of `table`: (soft prompts)."""
    model = LangBridgeModel.from_pretrained(bridge, dtype=torch.float32).eval()
    texts = [world.render(one, "en") for one in world.problems("validation", PROBLEMS)]
    soft = soft_prompts(model, LangBridgeProcessor.from_pretrained(bridge), texts)
    return torch.cdist(soft, table, compute_mode=EXACT).amin(1)
