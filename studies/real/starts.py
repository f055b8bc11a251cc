"""Starts as a bridge in a folder, which a run begins with (`init: FOLDER`): the recipe's own, and two that no recipe
has.

recipe     as the recipe's `init` has it, ridge or random.
random     a random linear map, times the number that gives its soft prompts the median norm of the embeddings of the
           same texts: what the closed form brings besides its scale is then not there.
permuted   the closed form with the coordinates of its soft prompts permuted around their mean. Their mean, their
           distances from it and from each other stay exactly what they were, and so does all that they tell of the
           text; only the code is no longer the language model's own. So the gain of the closed form over it is the
           content, and not scale, spread or place.

The last two keep the end vector, and none sees another text than English training questions.
"""

import shutil
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers.trainer_utils import set_seed

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.train import Recipe
from langbridge.train.prepare import build_model, prepare, some_texts
from langbridge.train.ridge import start_connector

TEXTS = 64
"""English training questions whose soft prompts say what scale and mean are."""


@torch.no_grad()
def write_start(kind: Literal["recipe", "random", "permuted"], recipe: Recipe, out: Path) -> Path:
    """Write the bridge to `out`, whole or not at all."""
    prepared = prepare(recipe)
    set_seed(recipe.seed)
    processor, model = prepared.processor, build_model(recipe, prepared.processor)
    assert isinstance(model, LangBridgeModel)
    texts = some_texts(prepared.training, TEXTS, recipe.seed)
    outer = [part for part in model.connector.modules() if isinstance(part, nn.Linear)][-1]
    if kind == "recipe":
        start_connector(model, processor, prepared.training, recipe)
    elif kind == "random":
        factor = _embedding_norm(model, processor, texts) / soft_prompts(model, processor, texts).norm(dim=1).median()
        outer.weight.mul_(factor)
        outer.bias.mul_(factor)
    else:
        start_connector(model, processor, prepared.training, recipe)
        mean = soft_prompts(model, processor, texts).mean(0)
        order = torch.randperm(len(mean), generator=torch.Generator().manual_seed(recipe.seed))
        outer.weight.copy_(outer.weight[order])
        outer.bias.copy_(mean + (outer.bias - mean)[order])
    part = out.with_name(f".{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    processor.save_pretrained(part)
    return part.rename(out)


@torch.no_grad()
def soft_prompts(model: LangBridgeModel, processor: LangBridgeProcessor, texts: list[str]) -> Tensor:
    """All soft prompts of texts, without the end vectors: (soft prompts, d_lm), float32."""
    batch = processor(texts)
    soft, mask = model.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])
    return soft[:, :-1][mask[:, :-1].bool()].float()


def _embedding_norm(model: LangBridgeModel, processor: LangBridgeProcessor, texts: list[str]) -> Tensor:
    ids = processor.tokenizer(" ".join(texts), add_special_tokens=False)["input_ids"]
    return model.get_input_embeddings()(torch.tensor(ids)).float().norm(dim=1).median()
