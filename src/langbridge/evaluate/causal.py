"""A causal language model that the harness loaded, asked in our own way.

The harness runs a whole batch on until the last of its answers ends, forgets how many tokens an answer had, and keeps
the logits of the whole vocabulary at every position of every prompt to score the few tokens after it. Prompts and
tokens are its own.
"""

from collections.abc import Sequence
from typing import Any

import torch

from langbridge.errors import LangBridgeError
from langbridge.evaluate.asking import GENERATE, HarnessAsker, Request
from langbridge.evaluate.generate import left_padded
from langbridge.evaluate.harness import generation_settings
from langbridge.evaluate.scoring import per_row
from langbridge.model.language_models import head_only_at
from langbridge.serve.generation import continuations


class CausalAsker(HarnessAsker):
    """A plain causal language model."""

    def answer(self, batch: Sequence[Request]) -> list[dict[str, Any]]:
        return self._write(batch) if batch[0].kind == GENERATE else self._score(batch)

    def _write(self, batch: Sequence[Request]) -> list[dict[str, Any]]:
        limit, stop, generation = generation_settings(batch[0].argument)
        room = self.lm.max_length - limit
        if room < 1:
            raise LangBridgeError(
                f"max_new_tokens: {limit} new tokens leave no room for a prompt: the model reads {self.lm.max_length} "
                "in all; give fewer"
            )
        rows = [self.lm.tok_encode(self.shown(request)) for request in batch]
        found = continuations(
            self.lm.model,
            left_padded([row[-room:] for row in rows], self.lm.device),
            self.lm.tokenizer,
            self.lm.tok_decode,
            max_new_tokens=limit,
            stop=stop,
            **generation,
        )
        return [
            {"text": one.text, "cut_off": one.cut_off, "prompt_cut": len(row) > room}
            for one, row in zip(found, rows, strict=True)
        ]

    @torch.inference_mode()
    def _score(self, batch: Sequence[Request]) -> list[dict[str, Any]]:
        pairs = [self._pair(self.shown(request), request.argument) for request in batch]
        most = self.lm.max_length + 1  # the last token is scored and never read
        rows = [(before + after)[-most:] for before, after in pairs]
        counts = [len(after) for _, after in pairs]
        width = max(map(len, rows)) - 1
        # Padded on the right, no causal model sees a pad before its text, so there is no mask.
        ids = torch.tensor([row[:-1] + [0] * (width + 1 - len(row)) for row in rows], device=self.lm.device)
        keep = torch.zeros_like(ids, dtype=torch.bool)
        for row, tokens, count in zip(keep, rows, counts, strict=True):
            row[len(tokens) - 1 - count : len(tokens) - 1] = True
        with head_only_at(self.lm.model, keep):
            logits = self.lm.model(input_ids=ids, use_cache=False).logits.squeeze(0)
        after = [token for _, tokens in pairs for token in tokens]
        scores = per_row(logits, torch.tensor(after, device=logits.device), counts)
        return [
            {"loglikelihood": value, "greedy": greedy, "prompt_cut": len(before) + len(tokens) > most}
            for (value, greedy), (before, tokens) in zip(scores, pairs, strict=True)
        ]

    def _pair(self, text: str, after: str) -> tuple[list[int], list[int]]:
        """Tokens of a prompt and of what follows it, divided as the harness divides them: spaces at a prompt's end are
        the first of what follows."""
        if not text:
            return [self.lm.prefix_token_id], self.lm.tok_encode(after, add_special_tokens=False)
        whole = self.lm.tok_encode(text + after)
        before = len(self.lm.tok_encode(text.rstrip()))
        return whole[:before], whole[before:]
