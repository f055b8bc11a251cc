"""The gate: is the encoder language-agnostic where it counts? Asked before any bridge is trained.

Digits and names are the same in every language, so plain retrieval flatters. Two questions that they do not answer:

- *retrieval*: of a problem and distractors with its names, numbers and length (other verbs, objects and order of
  events), which English text is the one that this text says? By late interaction, which reads states one by one as a
  connector does, and so is blind to order alone: every distractor has a verb that the problem has not.
- *probe*: does a linear probe that learned gain from loss on English sentences tell them apart in this language?
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from langbridge.miniature import world
from langbridge.miniature.grammar import LANGUAGES

Encode = Callable[[list[str]], tuple[Tensor, Tensor]]


def encoder_of(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, batch_size: int = 128) -> Encode:
    """A function from texts to (states, mask), padded to the longest text."""

    @torch.inference_mode()
    def encode(texts: list[str]) -> tuple[Tensor, Tensor]:
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        states = [
            model(input_ids=ids, attention_mask=mask).last_hidden_state
            for ids, mask in zip(batch.input_ids.split(batch_size), batch.attention_mask.split(batch_size), strict=True)
        ]
        return torch.cat(states), batch.attention_mask

    return encode


def late_interaction(first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor) -> Tensor:
    """How well every text's tokens find their like in every other text: (texts a, texts b), at most 1.

    The mean over a text's tokens of the largest cosine with a token of the other text, both ways (ColBERT's score,
    Khattab and Zaharia 2020, made symmetric). States are (texts, seq, d), masks (texts, seq) of 0 and 1.
    """
    first, second = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    a, n, d = first.shape
    b, m, _ = second.shape
    cosine = (first.reshape(a * n, d) @ second.reshape(b * m, d).T).reshape(a, n, b, m)
    first_real, second_real = first_mask.bool(), second_mask.bool()
    forward = cosine.masked_fill(~second_real[None, None], -1.0).amax(3)
    forward = (forward * first_mask[:, :, None]).sum(1) / first_mask.sum(1)[:, None]
    backward = cosine.masked_fill(~first_real[:, :, None, None], -1.0).amax(1)
    backward = (backward * second_mask[None]).sum(2) / second_mask.sum(1)[None]
    return (forward + backward) / 2


def retrieval(
    encode: Encode, language: str, *, split: str = "validation", count: int = 100, choices: int = 16
) -> float:
    """The share of problems whose English text is found among `choices` (one right) by late interaction."""
    rng = random.Random(f"gate/{split}/{language}")
    right = 0
    for problem in world.problems(split, count):
        candidates = [problem, *world.distractors(problem, choices - 1, rng)]
        query, query_mask = encode([world.render(problem, language, seed=1)])
        texts, mask = encode([world.render(candidate, "en", seed=2) for candidate in candidates])
        right += int(late_interaction(query, query_mask, texts, mask)[0].argmax().item() == 0)
    return right / count


def event_sentences(language: str, count: int, seed: int) -> tuple[list[str], Tensor]:
    """Single events and whether each is a gain (1) or a loss (-1); the same events for every language."""
    rng = random.Random(f"probe/{seed}")
    texts, signs = [], []
    for index in range(count):
        gain = rng.random() < 0.5
        event = world.Event(
            rng.choice(world.GAINS if gain else world.LOSSES), rng.choice(world.STEPS), rng.choice(world.TIMES)
        )
        said = random.Random(f"{seed}/{index}/{language}")
        texts.append(world.say_event(said, language, rng.choice(world.NAMES), event, rng.choice(world.NOUNS)))
        signs.append(1.0 if gain else -1.0)
    return texts, torch.tensor(signs)


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens, with a constant 1 for the probe's bias."""
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.cat([mean, torch.ones(len(mean), 1)], dim=1).double()


def english_probe(encode: Encode, count: int = 1000, penalty: float = 1e-3) -> Tensor:
    """A ridge classifier of gain against loss on mean-pooled English states."""
    texts, signs = event_sentences("en", count, seed=0)
    features = pooled(*encode(texts))
    gram = features.T @ features + penalty * count * torch.eye(features.shape[1], dtype=torch.double)
    return torch.linalg.solve(gram, features.T @ signs.double())


def probe_accuracy(encode: Encode, probe: Tensor, language: str, count: int = 500) -> float:
    texts, signs = event_sentences(language, count, seed=1)
    return ((pooled(*encode(texts)) @ probe).sign() == signs).double().mean().item()


def gate(encode: Encode, *, split: str = "validation", count: int = 100) -> dict[str, dict[str, float]]:
    """For each language, English included: `retrieval` to English, and `probe`."""
    probe = english_probe(encode)
    return {
        language: {
            "retrieval": retrieval(encode, language, split=split, count=count),
            "probe": probe_accuracy(encode, probe, language),
        }
        for language in LANGUAGES
    }


def describe(result: dict[str, dict[str, float]]) -> str:
    """One line: each language's two figures."""
    return "  ".join(f"{name} {row['retrieval']:.2f}/{row['probe']:.2f}" for name, row in result.items())
