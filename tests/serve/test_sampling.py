"""Tokens are drawn from the distribution that `generate` of transformers draws from."""

from types import SimpleNamespace

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from langbridge.errors import LangBridgeError
from langbridge.serve import sampling
from langbridge.serve.engine import Decoding
from langbridge.serve.sampling import Choice

CPU = torch.device("cpu")
MODEL = SimpleNamespace(generation_config=SimpleNamespace(top_k=None))
IDS = [3, 5, 5]
DRAWS = 1500


@pytest.mark.parametrize(
    ("options", "processors"),
    [
        ({"temperature": 1.5}, [TemperatureLogitsWarper(1.5), TopKLogitsWarper(50)]),
        ({"top_k": 6, "top_p": 0.8}, [TopKLogitsWarper(6), TopPLogitsWarper(0.8)]),
        ({"top_k": 0, "min_p": 0.1}, [MinPLogitsWarper(0.1)]),
        ({"top_k": 0, "top_p": 0.5, "temperature": 0.8}, [TemperatureLogitsWarper(0.8), TopPLogitsWarper(0.5)]),
        ({"top_k": 0, "top_p": 0.97}, [TopPLogitsWarper(0.97)]),
        (
            {"repetition_penalty": 3.0, "temperature": 0.7, "typical_p": 0.9},
            [
                RepetitionPenaltyLogitsProcessor(3.0),
                TemperatureLogitsWarper(0.7),
                TopKLogitsWarper(50),
                TypicalLogitsWarper(0.9),
            ],
        ),
    ],
)
def test_it_draws_as_generate_does(options: dict, processors: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "FEW", 16)  # which hold a half, and not nearly all
    torch.manual_seed(0)
    logits = torch.randn(64)
    choice = Choice(MODEL, Decoding(options={"do_sample": True, **options}), 2, [0], "key", CPU)
    found = torch.bincount(torch.tensor([choice(IDS, logits) for _ in range(DRAWS)]), minlength=64) / DRAWS
    wanted = LogitsProcessorList(processors)(torch.tensor([IDS]), logits[None].clone()).softmax(-1)[0]
    assert not found[wanted == 0].any()
    # A share of 1,500 draws has a standard error of 0.013 at most; five of them.
    assert float((found - wanted).abs().max()) < 0.065


def test_it_draws_by_seed_and_key_alone() -> None:
    logits = torch.zeros(64)

    def drawn(key: object, seed: int = 42) -> list[int]:
        choice = Choice(MODEL, Decoding(options={"do_sample": True}, seed=seed), 2, [0], key, CPU)
        torch.rand(3)
        return [choice(IDS, logits) for _ in range(10)]

    assert drawn("a") == drawn("a")
    assert drawn("a") != drawn("b")
    assert drawn("a") != drawn("a", 1)


def test_where_there_is_no_double_precision_it_draws_on_the_cpu() -> None:
    decoding, logits = Decoding(options={"do_sample": True, "suppress_tokens": [3]}), torch.zeros(64)
    apple, here = (Choice(MODEL, decoding, 2, [0], "key", device) for device in (torch.device("mps"), CPU))
    assert [apple(IDS, logits) for _ in range(10)] == [here(IDS, logits) for _ in range(10)]


@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"top_k": 5}])
def test_a_temperature_at_which_logits_overflow_is_an_error_and_no_token(options: dict) -> None:
    choice = Choice(MODEL, Decoding(options={"do_sample": True, "temperature": 1e-39, **options}), 2, [0], "key", CPU)
    with pytest.raises(LangBridgeError, match="not finite numbers; give a higher temperature"):
        choice(IDS, torch.randn(300))
