"""What soft prompts say in the language model's own vocabulary: the rows of its embeddings nearest to them, by cosine.

digits   of an MGSM question's digits, as the encoder's tokenizer cuts them, those whose token gave a soft prompt with
         the very same number for its nearest row. A token of several digits counts as so many, and is right only as a
         whole: where the language model has no such row, it cannot be.
words    of the content words of the *English* question that are one token of the language model (at least
         four letters, none of `EMPTY`), those among the three nearest rows of any soft prompt of the question.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import normalize

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.analyze.states import encoder_tokens

NEAR = 3
_EMPTY = """
    about after also been does each every from gets have having here into just many more most much only other over rest
    same some take than that their them then there these they this those time times total were what when where which
    while will with would
"""
EMPTY = frozenset(_EMPTY.split())
"""Words of four letters and more that say little or stand in most questions."""


class NearestRows:
    """The language model's embeddings as directions, read once."""

    @torch.no_grad()
    def __init__(self, model: LangBridgeModel, processor: LangBridgeProcessor) -> None:
        self.model, self.processor = model, processor
        embed = model.get_input_embeddings()
        ids = torch.arange(min(len(processor.tokenizer), embed.num_embeddings))
        self.directions = normalize(embed(ids).float(), dim=1)
        self.directions[processor.soft_prompt_token_id] = 0.0  # stands for no text
        self.texts = [str(text).strip() for text in processor.tokenizer.batch_decode([[int(i)] for i in ids])]
        self.words = {text.lower() for text in self.texts}

    def near(self, question: str) -> list[tuple[str, list[str]]]:
        """Of every soft prompt of the question's own tokens: the token, and the nearest rows' texts, nearest first."""
        batch = self.processor([question])
        with torch.inference_mode():
            soft, mask = self.model.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])
            best = (normalize(soft[0].float(), dim=1) @ self.directions.T).topk(NEAR, dim=1).indices.tolist()
        (read,) = encoder_tokens(self.processor, [question], None)
        sources = self.processor.encoder_tokenizer.convert_ids_to_tokens(read.ids)
        assert len(sources) == soft.shape[1] - 1, "a soft prompt a token, and the end vector"
        return [
            (source, [self.texts[row] for row in rows])
            for source, own, there, rows in zip(sources, read.own, mask[0].tolist(), best, strict=False)
            if own and there
        ]

    def counts(self, questions: Sequence[str], english: Sequence[str]) -> dict[str, Any]:
        """Digits and words, each the number found and the number of all, over questions and the same in English."""
        digits, words = [0, 0], [0, 0]
        for question, same in zip(questions, english, strict=True):
            near = self.near(question)
            for source, rows in near:
                if number := digits_of(source):
                    digits[0] += len(number) * (digits_of(rows[0]) == number == rows[0])
                    digits[1] += len(number)
            said = said_by(near)
            wanted = content_words(same) & self.words
            words[0] += len(wanted & said)
            words[1] += len(wanted)
        return {"digits": digits, "words": words}


def said_by(near: Sequence[tuple[str, Sequence[str]]]) -> set[str]:
    """What the nearest rows of a question's soft prompts say, in lower case."""
    return {text.lower() for _, rows in near for text in rows}


def digits_of(text: str) -> str:
    """The decimal digits of a text, of any script, as ASCII."""
    return "".join(str(unicodedata.decimal(char)) for char in text if unicodedata.decimal(char, None) is not None)


def content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]{4,}", text.lower()) if word not in EMPTY}
