"""The ways that are compared, each what it has other than the plain bridge, and the two pairs they are tried on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langbridge.languages import LANGUAGE_GROUPS
from langbridge.miniature import parents
from studies.real import arms as real
from studies.real.arms import Arm, Design, Pair

MINIATURE, SMOLLM2 = "miniature", "smollm2"
_DEMO = Path(__file__).parents[2] / "recipes" / "miniature" / "demo.yaml"
PAIRS = {
    MINIATURE: Pair(
        str(parents.LANGUAGE_MODEL),
        str(parents.ENCODER),
        _DEMO,
        {
            # The line's end is where the language model begins a solution, whichever way it reads the question.
            "template": "<soft>{prompt}</soft>\n",
            "data.input": "question",
            "data.output": "answer",
            "train.save_strategy": "steps",
            "train.save_steps": "50",
            "train.save_total_limit": "null",
        },
    ),
    SMOLLM2: real.PAIRS[SMOLLM2],
}

LOW = {MINIATURE: LANGUAGE_GROUPS["low"], SMOLLM2: ("sw", "te", "bn", "th")}
"""Low-resource languages, that all is about."""
KNOWN = {MINIATURE: ("es", "fr", "de"), SMOLLM2: ("es", "de")}
"""Others, beside English, that the miniature's language model knows, and SmolLM2 has seen."""

AUGMENTED = {MINIATURE: "<soft>{prompt}</soft>{prompt}\n", SMOLLM2: real.BESIDE}
"""The template in which the language model has the question as its own tokens too."""


ROUTE = "route"


def design(pair: str) -> Design:
    return Design(_arms(pair), PAIRS)


def _arms(pair: str) -> Mapping[str, Arm]:
    augmented = {"template": AUGMENTED[pair]}
    text = {"template": "{prompt}\n"} if pair == MINIATURE else {}  # the other has its chat template
    return {
        "bridge": Arm("the bridge: closed form, trained on gold English solutions"),
        "text": Arm("no bridge: the language model reads the question", text, trained=False, bridge=False),
        "closed": Arm("the closed form alone", trained=False),
        "mean": Arm("mean of closed form and bridge", mean=0.5, of=("closed", "bridge")),
        "route": Arm("the bridge, or the text where the language model knows it", of=("text", "bridge")),
        "layerwise": Arm(
            "cross-attention in the language model's layers besides (LayAlign)",
            {"connector.kind": "layerwise"},
        ),
        "layerwise_text": Arm(
            "cross-attention, and the question as text too (LayAlign whole)",
            {"connector.kind": "layerwise", **augmented},
        ),
        "augmented": Arm("the language model sees the question as text too (MindMerger)", augmented),
        "noised": Arm("the same, the text corrupted in training", {**augmented, **NOISE}),
        "dropped": Arm("the same, the text left out in half of the rows", {**augmented, "text_noise.drop": "0.5"}),
        "beside": Arm(
            "the bridge as it is, asked with the question as text too", of=("bridge",), asked_in=AUGMENTED[pair]
        ),
        "noise": Arm("the bridge, with noise on the encoder's states in training", {"state_noise": "0.5"}),
        "noise_less": Arm("the same, half as much", {"state_noise": "0.25"}),
        "adapters": Arm("half of the examples for DoRA, the connector frozen (MERLIN)", stages=_adapters),
        "bitext": Arm("a stage of translation into English before the task (MindMerger)", stages=_bitext),
        "bitext_short": Arm("the same with half of the examples in each stage", stages=_bitext_short),
        "ceiling": Arm("trained on the questions in all languages", data="all.jsonl"),
    }


NOISE = {"text_noise.drop": "0.4", "text_noise.scramble": "0.4"}
"""Both ways of corrupting the text."""


def _adapters(updates: int, _: Path) -> list[dict[str, Any]]:
    first = updates // 2
    adapters = {"r": 16, "alpha": 32, "dora": True}
    return [
        {"train": {"max_steps": first}},
        {"train": {"max_steps": updates - first}, "lora": adapters, "freeze_connector": True},
    ]


def _bitext_short(updates: int, data: Path) -> list[dict[str, Any]]:
    return _bitext(updates // 2, data)


def _bitext(updates: int, data: Path) -> list[dict[str, Any]]:
    """The closed form first, by itself: it is fitted to the prompts of its stage, and those have to be English."""
    steps = {"train": {"max_steps": updates}}
    return [{"train": {"max_steps": 0}}, {**steps, "data": {"path": str(data / "bitext.jsonl")}}, steps]
