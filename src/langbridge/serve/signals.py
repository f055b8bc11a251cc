"""Whether a language model reads a text by itself, asked without a label: the two signals of a route.

loss    The language model's loss of the text, per token of the *encoder*, whose vocabulary cuts its languages about
        alike; a byte or a character says more in one script than in another. What it expects as it expects English it
        knows; what it does not, it may still understand.
gloss   The bridge's reading of the text, the token that is nearest to each of its soft prompts, is a gloss of it, with
        holes. If the language model understands the text, the text makes its gloss easier to predict. The signal is by
        how much, per token of the gloss.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.model.language_models import positions

CUE = "\nIn English: "
"""Between a text and its gloss."""
_REMEMBERED = 64
"""Texts whose signals are kept: a request for several answers asks for its prompt's once for each."""
_LONGEST = 512
"""Of a long text the language model's last tokens that are read, so that their logits fit into memory."""
_ROWS = 8192
"""Embeddings that are taken into single precision at once."""


class Signals:
    """Of the language model of a bridge, on one text at a time, in nats. The encoder's mark of a language, where it has
    one, is the tokenizer's own."""

    def __init__(self, model: LangBridgeModel, processor: LangBridgeProcessor):
        self._model, self._processor = model, processor
        self._longest = min(_LONGEST, (positions(model.language_model.config) or 2 * _LONGEST) // 2)
        self.loss: Callable[[str], float] = lru_cache(_REMEMBERED)(self._loss)
        self.gloss: Callable[[str], float] = lru_cache(_REMEMBERED)(self._gloss)

    @torch.inference_mode()
    def _loss(self, text: str) -> float:
        whole = self._ids(text)
        count = len(self._processor.encoder_tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        if not whole or not count:
            return 0.0
        read = whole[-self._longest :]
        return self._lost(read, len(read)) * len(whole) / len(read) / count

    @torch.inference_mode()
    def _gloss(self, text: str) -> float:
        whole, cue = self._ids(text), self._ids(CUE)
        read = whole[-self._longest :]
        told = self._told(text if len(read) == len(whole) else self._processor.tokenizer.decode(read))
        told = told[: self._longest - len(cue) - 1]
        if not told:
            return 0.0
        before, behind = (self._lost([*known, *cue, *told], len(told)) for known in ([], read))
        return (before - behind) / len(told)

    def _told(self, text: str) -> list[int]:
        """The nearest tokens to the soft prompts that are Latin letters without marks, none twice in a row: pieces of
        English words, if the language model's vocabulary is English."""
        limit = {"truncation": True, "max_length": self._model.encoder_length_limit or 1024}
        source = self._processor.encoder_tokenizer([text], return_tensors="pt", **limit)
        soft, mask = self._model.soft_prompts(source["input_ids"], source["attention_mask"])
        soft = soft[0, mask[0].bool()][:-1]  # the last is the end vector
        nearest = ((soft.to(self._table) @ self._table.T).float() / self._norms).argmax(1).tolist()
        told = [token for token in nearest if self._letters[token]]
        return [token for place, token in enumerate(told) if not place or told[place - 1] != token]

    def _lost(self, ids: Sequence[int], last: int) -> float:
        """The loss of the last tokens, summed, behind whatever begins a text."""
        tokenizer, language_model = self._processor.tokenizer, self._model.language_model
        begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        whole = torch.tensor([[begin, *ids]], device=language_model.device)
        embeds = language_model.get_input_embeddings()(whole)
        # No hook on the head: in a server another thread runs the same language model.
        logits = self._model.run(last + 1, inputs_embeds=embeds, use_cache=False).logits[0, -last - 1 : -1].float()
        return float(torch.nn.functional.cross_entropy(logits, whole[0, -last:].to(logits.device), reduction="sum"))

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
        return norms.clamp(min=torch.finfo(norms.dtype).tiny)

    @cached_property
    def _letters(self) -> Bool[Tensor, " vocabulary"]:
        texts = self._processor.tokenizer.batch_decode([[token] for token in range(len(self._table))])
        return torch.tensor([text.strip().isascii() and text.strip().isalpha() for text in texts])
