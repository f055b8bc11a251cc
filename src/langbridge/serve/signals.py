"""Whether a language model reads a text by itself, asked without a label: what a route goes by.

gloss   The bridge's reading of a text, the English word that is nearest to each of its soft prompts, is a gloss of it,
        with holes. A language model that understands the text is told by it what its gloss will be; to one that does
        not, it says nothing of it. The signal is what the text takes off the loss of the gloss, in nats a word: more
        for what is known.
loss    The language model's loss of the text itself, in nats a token of the *encoder*, whose vocabulary cuts its
        languages about alike; a byte or a character says more in one script than in another. Less for what is known.
        But a language model may spell what it does not understand.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from langbridge.model import LangBridgeModel, LangBridgeProcessor

Name = Literal["gloss", "loss"]
GLOSS: Name = "gloss"
LOSS: Name = "loss"

CUE = "\nIn English: "
"""Between a text and its gloss."""
_REMEMBERED = 64
"""Texts whose signals are kept: a request for several answers asks for its prompt's once for each."""
_LONGEST = 512
"""Of a long text the language model's tokens that are read, so that their logits fit into memory."""
_ROWS = 8192
"""Embeddings that are taken into single precision at once."""


class Signal:
    """One of the signals of a bridge's language model, on texts, one at a time."""

    def __init__(self, model: LangBridgeModel, processor: LangBridgeProcessor, name: Name):
        self.name, self._model, self._processor = name, model, processor
        ways: dict[Name, Callable[[str], float]] = {GLOSS: self._told, LOSS: self._loss}
        self._of = lru_cache(_REMEMBERED)(ways[name])

    def __call__(self, texts: Sequence[str]) -> list[float]:
        return [self._of(text) for text in texts]

    @torch.inference_mode()
    def _loss(self, text: str) -> float:
        whole = self._ids(text)
        count = len(self._processor.encoder_tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        if not whole or not count:
            return 0.0
        read = whole[:_LONGEST]
        return float(self._losses(read, len(read)).sum()) * len(whole) / len(read) / count

    @torch.inference_mode()
    def _told(self, text: str) -> float:
        read = self._ids(text)[:_LONGEST]
        gloss = self._gloss(text if len(read) < _LONGEST else self._processor.tokenizer.decode(read))
        if not gloss:
            return 0.0
        asked = [*self._ids(CUE), *gloss]
        before, behind = (self._losses([*known, *asked], len(gloss)).sum() for known in ([], read))
        return float(before - behind) / len(gloss)

    def _gloss(self, text: str) -> list[int]:
        """The tokens that are words of English letters among the nearest to the soft prompts, none twice in a row."""
        limit = {"truncation": True, "max_length": self._model.encoder_length_limit or 1024}
        source = self._processor.encoder_tokenizer([text], return_tensors="pt", **limit)
        soft, mask = self._model.soft_prompts(source["input_ids"], source["attention_mask"])
        soft = soft[0, mask[0].bool()][:-1]  # the last is the end vector
        nearest = (soft.to(self._table) @ self._table.T / self._norms).argmax(1).tolist()
        told = [token for token in nearest if self._words[token]]
        return [token for place, token in enumerate(told) if not place or told[place - 1] != token]

    def _losses(self, ids: list[int], last: int) -> Float[Tensor, " last"]:
        """Of the last tokens, behind whatever begins a text."""
        tokenizer, language_model = self._processor.tokenizer, self._model.language_model
        begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        whole = torch.tensor([[begin, *ids]], device=language_model.device)
        # No hook on the head: in a server another thread runs the same language model.
        logits = language_model(input_ids=whole, use_cache=False).logits[0, -last - 1 : -1].float()
        return torch.nn.functional.cross_entropy(logits, whole[0, -last:].to(logits.device), reduction="none")

    def _ids(self, text: str) -> list[int]:
        return list(self._processor.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @cached_property
    def _table(self) -> Float[Tensor, "vocabulary d_lm"]:
        """The rows that tokens have; a table may have more."""
        weight: Tensor = self._model.language_model.get_input_embeddings().weight
        return weight[: len(self._processor.tokenizer)]

    @cached_property
    def _norms(self) -> Float[Tensor, " vocabulary"]:
        norms = torch.cat([rows.float().norm(dim=1) for rows in self._table.split(_ROWS)])
        return norms.clamp(min=torch.finfo(torch.float32).tiny).to(self._table)

    @cached_property
    def _words(self) -> Bool[Tensor, " vocabulary"]:
        texts = self._processor.tokenizer.batch_decode([[token] for token in range(len(self._table))])
        return torch.tensor([text.strip().isascii() and text.strip().isalpha() for text in texts])
