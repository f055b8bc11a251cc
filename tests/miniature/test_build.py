"""A shrunken pair is built from scratch; the shipped pair is what it says it is."""

import json
import random

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForTextEncoding, AutoTokenizer

from langbridge.errors import LangBridgeError
from langbridge.miniature import build as building
from langbridge.miniature import parents, world
from langbridge.miniature.corpus import sentence_pairs
from langbridge.miniature.gate import encoder_of, english_probe, late_interaction, probe_accuracy, retrieval
from langbridge.miniature.grammar import LANGUAGES
from langbridge.miniature.language_model import batch_texts, held_out_solved, noisy
from langbridge.miniature.translation import lexical_loss

shipped = pytest.mark.skipif(not parents.FOLDER.is_dir(), reason="the miniature's models are not built here")


def test_a_shrunken_pair_is_built_and_loads(tmp_path):
    out = tmp_path / "models"
    report = building.build(out, building.shrunken(), threads=1)
    assert set(report["languages"]) == set(LANGUAGES)
    assert report["translation_loss"] > report["translation_floor"] > 0
    parents.check(out)
    encoder = AutoModelForTextEncoding.from_pretrained(out / "encoder")
    language_model = AutoModelForCausalLM.from_pretrained(out / "language_model")
    assert encoder.dtype == language_model.dtype == torch.float16
    tokenizer = AutoTokenizer.from_pretrained(out / "encoder")
    assert tokenizer("Tom").input_ids[-1] == encoder.config.eos_token_id
    tokenizer = AutoTokenizer.from_pretrained(out / "language_model")
    assert tokenizer("Tom").input_ids[0] == language_model.config.bos_token_id
    assert json.loads((out / "build.json").read_text())["gate"] == report
    # A build that was finished is not trained again, and writes the same files.
    before = (out / parents.CHECKSUMS).read_text()
    building.build(out, building.shrunken(), threads=1)
    weights = [line for line in before.splitlines() if line.endswith(".safetensors")]
    assert set(weights) <= set((out / parents.CHECKSUMS).read_text().splitlines())
    (out / "encoder" / "config.json").write_text("{}")
    with pytest.raises(LangBridgeError, match=r"encoder/config\.json"):
        parents.check(out)


def test_a_build_does_not_mix_two_recipes(tmp_path):
    (tmp_path / "models.state").mkdir()
    (tmp_path / "models.state" / "recipe.json").write_text("{}")
    with pytest.raises(LangBridgeError, match="another recipe"):
        building.build(tmp_path / "models", building.shrunken())


def test_no_low_resource_text_in_the_language_models_corpus():
    recipe = building.BuildRecipe().language_model
    assert set(recipe.shares) == {"en", "es", "de", "fr"}
    texts = [problem for step in range(20) for problem, _ in batch_texts(step, recipe, 0)]
    assert all(character.isascii() or character in "¿áéíóúñäöüßàâçèêîôûœÄÖÜ" for text in texts for character in text)


def test_noise_is_seeded_bounded_and_only_where_it_belongs():
    embeddings = torch.randn(64, 50, 32)
    where = torch.zeros(64, 50, dtype=torch.bool)
    where[:, :25] = True
    noise = noisy(embeddings, where, 0.5, seed=7) - embeddings
    assert torch.equal(noise, noisy(embeddings, where, 0.5, seed=7) - embeddings)
    assert noise[:, 25:].abs().max() == 0
    # 800 draws a row estimate its deviation within 10 per cent (four standard errors).
    deviation = noise[:, :25].flatten(1).std(1)
    assert deviation.max() < 0.5 * 1.1
    assert deviation.min() < 0.1 < 0.4 < deviation.max()


@shipped
def test_the_shipped_language_model_solves_careless_english():
    model = AutoModelForCausalLM.from_pretrained(parents.LANGUAGE_MODEL, dtype=torch.float32).eval()
    solved = held_out_solved(model, AutoTokenizer.from_pretrained(parents.LANGUAGE_MODEL), count=40)
    assert solved["tidy"] >= 0.95
    assert solved["careless"] >= 0.8


def test_lexical_loss_against_a_hand_count():
    table = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    states = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    # The tag's embedding is zero, so p(word | state) is a softmax of (0, 2, 0) for the first state, (0, 0, 2) for
    # the second; the padded third has no say.
    share = torch.tensor(2.0).exp() / (torch.tensor(2.0).exp() + 2)
    rest = (1 - share) / 2
    expected = -((share + rest) / 2).log()
    loss = lexical_loss(states, mask, torch.tensor([0]), torch.tensor([[1, -100, 2]]), table)
    torch.testing.assert_close(loss, expected)


def test_late_interaction_finds_like_tokens_in_any_order_and_ignores_padding():
    first = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [5, 5, 5]]])
    mask = torch.tensor([[1, 1, 0]])
    second = torch.tensor([[[0, 2.0, 0], [3, 0, 0], [0, 0, 7]], [[0, 0, 1.0], [0, 0, 1], [0, 0, 1]]])
    second_mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert late_interaction(first, mask, second, second_mask).tolist() == [[1.0, 0.0]]


@pytest.fixture(scope="module")
def shipped_encoder():
    model = AutoModelForTextEncoding.from_pretrained(parents.ENCODER, dtype=torch.float32).eval()
    return encoder_of(model, AutoTokenizer.from_pretrained(parents.ENCODER))


@shipped
def test_shipped_files_are_those_that_were_built():
    parents.check()
    assert sum(p.stat().st_size for p in parents.FOLDER.rglob("*")) <= 12e6
    for folder in (parents.ENCODER, parents.LANGUAGE_MODEL):
        with safe_open(folder / "model.safetensors", "pt") as weights:
            tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
        assert {tensor.dtype for tensor in tensors} == {torch.float16}
        assert sum(tensor.numel() for tensor in tensors) <= 2_000_000


@shipped
def test_the_shipped_recipe_is_the_default_one():
    from dataclasses import asdict

    record = json.loads((parents.FOLDER / "build.json").read_text())
    assert record["recipe"] == json.loads(json.dumps(asdict(building.BuildRecipe())))


@shipped
@pytest.mark.parametrize("language", ["te", "ko"])
def test_the_shipped_encoder_passes_the_gate(shipped_encoder, language):
    """Two languages far from English, on few problems; `build.json` has all of them on many."""
    assert retrieval(shipped_encoder, language, count=40) >= 0.9
    read = probe_accuracy(shipped_encoder, english_probe(shipped_encoder), language, count=200)
    assert read["probe"] >= 0.93
    assert read["number"] >= 0.95


@shipped
def test_the_gate_can_fail(shipped_encoder):
    """States that forget all but names and numbers retrieve no better than chance."""

    def names_and_numbers(texts):
        return shipped_encoder(
            [" ".join(w.strip(".,?") for w in t.split() if w.strip(".,?").isdigit() or w in world.NAMES) for t in texts]
        )

    assert retrieval(names_and_numbers, "es", count=40) < 0.4


def test_pairs_mean_the_same():
    """The numbers of both sides agree: a pair is parallel."""
    import re

    for pair in sentence_pairs(random.Random(2), 200):
        first, second = (re.findall(r"\d+", text) for text in pair.targets)
        assert first == second
