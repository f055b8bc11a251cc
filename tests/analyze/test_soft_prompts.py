"""The language model's tokens nearest to soft prompts, on bridges whose soft prompts are known."""

from pathlib import Path

import pytest
import torch

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.analyze.scripts import NO_SCRIPT
from langbridge.analyze.soft_prompts import Nearest, Neighbour, SoftPrompt, as_text, nearest_tokens
from langbridge.errors import LangBridgeError


@pytest.fixture
def bridge(bridge_folder: Path) -> tuple[LangBridgeModel, LangBridgeProcessor]:
    return LangBridgeModel.from_pretrained(bridge_folder), LangBridgeProcessor.from_pretrained(bridge_folder)


def constant(model: LangBridgeModel, vector: torch.Tensor) -> None:
    """Make every soft prompt, the end vector included, this vector."""
    with torch.no_grad():
        model.connector.linear.weight.zero_()
        model.connector.linear.bias.copy_(vector)
        model.connector.end.copy_(vector)


def test_a_soft_prompt_that_is_a_token_is_nearest_to_it(bridge) -> None:
    model, processor = bridge
    telugu = processor.tokenizer.convert_tokens_to_ids("ె")
    table = model.get_input_embeddings().weight
    constant(model, 3 * table[telugu].detach())  # three times as long, in the same direction
    found = nearest_tokens(model, processor, "2+2?", top=3)
    # The template "Q: {prompt}\nA:" and </s> are read by the encoder too; the last is the end vector.
    assert [one.source for one in found.soft_prompts][3:7] == ["2", "+", "2", "?"]
    assert [one.source for one in found.soft_prompts][-2:] == ["</s>", "[end]"]
    for one in found.soft_prompts:
        assert (one.nearest[0].id, one.nearest[0].text, one.nearest[0].script) == (telugu, "ె", "Telugu")
        assert one.nearest[0].cosine == pytest.approx(1.0, abs=1e-5)  # single precision
        cosines = torch.cosine_similarity(table[telugu][None], table[: len(processor.tokenizer)], dim=1)
        assert one.nearest[1].cosine == pytest.approx(float(cosines.topk(2).values[1]), abs=1e-5)
        assert one.norm == pytest.approx(3 * float(table[telugu].norm()), rel=1e-5)
    assert found.scripts() == {"Telugu": 1.0}
    assert found.vocabulary_scripts["Telugu"] == pytest.approx(2 / len(processor.tokenizer))


def test_scripts_are_those_of_the_prompt_s_own_tokens(bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template "Q: {prompt}\nA:" and </s> are Latin here; what the prompt says is Telugu but for one digit."""
    model, processor = bridge
    table = model.get_input_embeddings().weight.detach()
    latin, digit, telugu = (table[processor.tokenizer.convert_tokens_to_ids(text)] for text in ("a", "2", "ె"))
    rows = [latin] * 3 + [telugu, telugu, digit, telugu] + [latin] * 5
    monkeypatch.setattr(model, "soft_prompts", lambda ids, mask: (torch.stack(rows)[None], torch.ones(1, len(rows))))
    found = nearest_tokens(model, processor, "రె2?", top=1)
    assert [one.source for one in found.soft_prompts if one.own] == ["ర", "ె", "2", "?"]
    assert found.scripts() == {"Telugu": 0.75, NO_SCRIPT: 0.25}
    lines = as_text(found).splitlines()
    assert ["·" in line for line in lines[:12]] == [True] * 3 + [False] * 4 + [True] * 5
    assert lines[-3] == "scripts of the nearest tokens: Telugu 75 %, none 25 %"
    median = float(telugu.norm() + digit.norm()) / 2
    assert min(float(telugu.norm()), median) <= found.norm <= max(float(telugu.norm()), median)


def test_the_placeholder_and_unused_rows_are_no_neighbours(bridge) -> None:
    model, processor = bridge
    unused = model.get_input_embeddings().num_embeddings - 1
    assert unused >= len(processor.tokenizer)
    constant(model, model.get_input_embeddings().weight[unused].detach())
    found = nearest_tokens(model, processor, "2", top=1)
    assert all(one.nearest[0].id < len(processor.tokenizer) for one in found.soft_prompts)
    assert max(one.nearest[0].cosine for one in found.soft_prompts) < 0.99


def test_lines_show_every_soft_prompt_and_the_scripts(bridge) -> None:
    model, processor = bridge
    found = nearest_tokens(model, processor, "2", top=2)
    lines = as_text(found).splitlines()
    assert len(lines) == len(found.soft_prompts) + 5
    assert "'\\n'" in lines[4], "the template's newline is one line of the table, and not two"
    assert f"{found.soft_prompts[3].nearest[1].cosine:.2f}" in lines[3]
    assert lines[-3].startswith("scripts of the nearest tokens: ")
    assert sum(found.scripts().values()) == pytest.approx(1.0)


def test_a_resampler_s_latents_are_no_tokens(base_folders: tuple[Path, Path]) -> None:
    from langbridge.model import build_bridge

    model, processor = build_bridge(*base_folders, connector={"kind": "resampler", "num_latents": 3})
    found = nearest_tokens(model, processor, "What is 2+2?")
    assert [one.source for one in found.soft_prompts] == ["[latent 0]", "[latent 1]", "[latent 2]", "[end]"]
    assert [one.own for one in found.soft_prompts] == [True, True, True, False], "latents read the whole prompt"


def test_bare_tokens_have_no_line(base_folders: tuple[Path, Path]) -> None:
    from langbridge.model import build_bridge

    found = nearest_tokens(*build_bridge(*base_folders, drop_bare_tokens=True), "1+1")
    assert [one.source for one in found.soft_prompts] == ["1", "+", "1", "[end]"]


def test_nothing_to_look_at(bridge) -> None:
    with pytest.raises(LangBridgeError, match="empty"):
        nearest_tokens(*bridge, " ")
    with pytest.raises(LangBridgeError, match="--top"):
        nearest_tokens(*bridge, "x", top=0)


def test_the_rare_scripts_of_a_large_vocabulary_are_summed_up() -> None:
    nearest = (Neighbour(0, "a", "Latin", 0.5),)
    shares = {"Latin": 0.97, "Han": 0.024, "Thai": 0.004, "Telugu": 0.002}
    lines = as_text(Nearest((SoftPrompt("a", True, 1.0, nearest),), 1.0, shares)).splitlines()
    assert lines[-2] == "scripts of the vocabulary:     Latin 97 %, Han 2 %, 2 others 0.6 %"
