"""The gate: is the encoder language-agnostic where it counts? Asked before any bridge is trained, on validation
problems.

Digits and names are the same in every language, so plain retrieval flatters. Three questions:

- *retrieval*: of a problem and distractors with its names, numbers and length (other verbs, objects and order of
  events), which English text is the one that this text says? By late interaction, which reads states one by one as a
  connector does, and so is blind to order alone: every distractor has a verb that the problem has not.
- *probe*: does a linear probe that learned gain from loss on English sentences tell them apart in this language?
- *number*: does one that learned an event's number on English sentences read it in this language? (It would not, were a
  number cut into other tokens there.)
"""

import random
from collections.abc import Callable
from typing import NamedTuple

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


def retrieval(encode: Encode, language: str, *, count: int = 100, choices: int = 16) -> float:
    """The share of problems whose English text is found among `choices` (one right) by late interaction."""
    rng = random.Random(f"gate/validation/{language}")
    right = 0
    for problem in world.problems("validation", count):
        candidates = [problem, *world.distractors(problem, choices - 1, rng)]
        query, query_mask = encode([world.render(problem, language, seed=1)])
        texts, mask = encode([world.render(candidate, "en", seed=2) for candidate in candidates])
        right += int(late_interaction(query, query_mask, texts, mask)[0].argmax().item() == 0)
    return right / count


class Events(NamedTuple):
    """Single events with what a probe is asked about them."""

    texts: list[str]
    signs: Tensor
    """(events, 1): 1 for a gain, -1 for a loss."""
    numbers: Tensor
    """(events, numbers): 1 in the column of the event's number, else -1."""


def event_sentences(language: str, count: int, seed: int) -> Events:
    """`count` events with all of the world's numbers; the same events for every language."""
    rng = random.Random(f"probe/{seed}")
    known = sorted({*world.STEPS, *world.STARTS})
    texts, signs = [], torch.empty(count, 1)
    numbers = torch.full((count, len(known)), -1.0)
    for index in range(count):
        gain = rng.random() < 0.5
        number = rng.choice(known)
        event = world.Event(rng.choice(world.GAINS if gain else world.LOSSES), number, rng.choice(world.TIMES))
        said = random.Random(f"{seed}/{index}/{language}")
        texts.append(world.say_event(said, language, rng.choice(world.NAMES), event, rng.choice(world.NOUNS)))
        signs[index] = 1.0 if gain else -1.0
        numbers[index, known.index(number)] = 1.0
    return Events(texts, signs, numbers)


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over real tokens, with a constant 1 for the probe's bias."""
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.cat([mean, torch.ones(len(mean), 1)], dim=1).double()


class Probe(NamedTuple):
    """Linear probes on mean-pooled states, (d_encoder + 1, outputs) each."""

    sign: Tensor
    number: Tensor


def english_probe(encode: Encode, count: int = 2000, penalty: float = 1e-3) -> Probe:
    """Ridge classifiers of an English event's sign and of its number."""
    events = event_sentences("en", count, seed=0)
    features = pooled(*encode(events.texts))
    gram = features.T @ features + penalty * count * torch.eye(features.shape[1], dtype=torch.double)
    return Probe(*(torch.linalg.solve(gram, features.T @ asked.double()) for asked in (events.signs, events.numbers)))


def probe_accuracy(encode: Encode, probe: Probe, language: str, count: int = 500) -> dict[str, float]:
    """The shares of a language's events whose sign (`probe`) and whose `number` the English probes get right."""
    events = event_sentences(language, count, seed=1)
    features = pooled(*encode(events.texts))
    return {
        "probe": ((features @ probe.sign).sign() == events.signs).double().mean().item(),
        "number": ((features @ probe.number).argmax(1) == events.numbers.argmax(1)).double().mean().item(),
    }


def gate(encode: Encode, *, count: int = 100) -> dict[str, dict[str, float]]:
    """For each language, English included: `retrieval` to English, `probe` and `number`."""
    probe = english_probe(encode)
    return {
        language: {
            "retrieval": retrieval(encode, language, count=count),
            **probe_accuracy(encode, probe, language),
        }
        for language in LANGUAGES
    }


def describe(result: dict[str, dict[str, float]]) -> str:
    """One line: each language's figures."""
    return "  ".join(f"{name} " + "/".join(f"{value:.2f}" for value in row.values()) for name, row in result.items())
