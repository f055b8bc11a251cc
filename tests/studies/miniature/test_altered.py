"""Soft prompts that are snapped or mixed are the language model's own; embeddings are moved as far as said."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from langbridge.errors import LangBridgeError
from langbridge.miniature import parents
from langbridge.model import ConnectorSettings, LangBridgeModel, build_bridge
from studies.miniature import altered as module
from studies.miniature.altered import altered, distances
from studies.miniature.mixture import MixtureConnector, by_name, text_rows
from studies.miniature.reading import kind_of

pytestmark = pytest.mark.skipif(not parents.FOLDER.is_dir(), reason="the miniature's models are not built here")
PROMPTS = ["Tom has 28 apples.", "Eva has 30 hats. Then Eva buys 4 hats."]


def made(connector: Any = "linear") -> tuple[Any, Any]:
    return build_bridge(str(parents.ENCODER), str(parents.LANGUAGE_MODEL), connector=connector, dtype=torch.float32)


def read(model: Any, processor: Any) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = processor(PROMPTS)
    with torch.no_grad():
        return model.soft_prompts(inputs["encoder_input_ids"], inputs["encoder_attention_mask"])


@pytest.mark.parametrize("how", ["snapped", "snapped-cosine"])
def test_snapped_soft_prompts_are_the_nearest_embeddings(how: Any) -> None:
    model, processor = made()
    table = text_rows(model.get_input_embeddings().weight.detach(), processor.tokenizer)
    engine: Any = SimpleNamespace(model=model, reader=SimpleNamespace(tokenizer=processor.tokenizer))
    before, mask = read(model, processor)
    with altered(engine, how, Path(), 0):
        inside, same_mask = read(model, processor)
    assert torch.equal(mask, same_mask)
    assert torch.equal(before, read(model, processor)[0])
    assert torch.equal(inside[:, -1], before[:, -1]), "the end vector stands for no text"
    here, there = before[0, :-1][mask[0, :-1].bool()], inside[0, :-1][mask[0, :-1].bool()]
    assert (there[:, None] == table).all(-1).any(-1).all()
    # Of each soft prompt the nearest: no other row is nearer.
    if how == "snapped":
        torch.testing.assert_close((here - there).norm(dim=1), (here[:, None] - table).norm(dim=-1).amin(1))
    else:
        cosine = normalize(here, dim=1) @ normalize(table, dim=1).T
        torch.testing.assert_close((normalize(here, dim=1) * normalize(there, dim=1)).sum(1), cosine.amax(1))


def test_the_placeholder_is_no_row_of_text() -> None:
    model, processor = made()
    table = model.get_input_embeddings().weight.detach()
    rows = text_rows(table, processor.tokenizer)
    assert 0 < len(table) - len(rows) < 10
    assert not (rows == table[processor.soft_prompt_token_id]).all(1).any()


def test_embeddings_are_moved_as_far_as_soft_prompts_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBLEMS", 4)
    model, processor = made()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    lm = model.language_model
    engine: Any = SimpleNamespace(model=lm, reader=SimpleNamespace(tokenizer=processor.tokenizer))
    far = distances(tmp_path, text_rows(lm.get_input_embeddings().weight.detach(), processor.tokenizer))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = lm.get_input_embeddings()(ids)
        with altered(engine, "moved", tmp_path, 0):
            moved, token = lm.get_input_embeddings()(ids), lm.get_input_embeddings()(ids[:, :1])
    assert torch.equal(token, before[:, :1]), "an answer's own tokens stay"
    by = (moved - before).norm(dim=-1).flatten()
    assert (by[:, None] - far).abs().amin(1).max() < 1e-5


@by_name()
def test_mixtures_stay_within_the_embeddings_and_are_found_by_their_name(tmp_path: Path) -> None:
    settings = ConnectorSettings.read({"kind": "mixture", "language_model": str(parents.LANGUAGE_MODEL)})
    model, processor = made(settings)
    soft, mask = read(model, processor)
    table = text_rows(model.get_input_embeddings().weight.detach(), processor.tokenizer)
    real = soft[:, :-1][mask[:, :-1].bool()]
    assert (real <= table.amax(0) + 1e-5).all()
    assert (real >= table.amin(0) - 1e-5).all()
    # A map that says a row, sharply, gives that row.
    assert isinstance(model.connector, MixtureConnector)
    weight = torch.zeros(model.connector.linear.in_features, table.shape[1])
    model.connector.set_affine(weight, table[40], model.connector.end.detach())
    with torch.no_grad():
        model.connector.log_sharpness.fill_(6.0)
    torch.testing.assert_close(read(model, processor)[0][0, 0], table[40], atol=1e-3, rtol=0)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    torch.testing.assert_close(read(LangBridgeModel.from_pretrained(tmp_path), processor)[0], read(model, processor)[0])


def test_outside_the_study_no_recipe_knows_its_connector() -> None:
    with pytest.raises(LangBridgeError, match="expected one of"):
        ConnectorSettings.read("mixture")


def test_numbers_are_those_of_the_problem_and_signs_are_its_verbs() -> None:
    written = re.findall(r"\S+", "Tom starts with 28 . 28 + 9 = 37 . 37 - 5 = 32 . The answer is 32 .")
    kinds = [kind_of(before, token) for before, token in zip(["", *written], written, strict=False)]
    assert [(token, kind) for token, kind in zip(written, kinds, strict=True) if kind] == [
        ("28", "numbers"), ("+", "verbs"), ("9", "numbers"), ("-", "verbs"), ("5", "numbers"),
    ]  # fmt: skip
