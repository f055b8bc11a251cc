"""The table of input embeddings out of a language model's weights is the one in the language model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import LANGUAGE_MODELS, make_language_model

from langbridge.errors import LangBridgeError
from langbridge.model.bases import base_fingerprint
from langbridge.model.embedding_table import load_embedding_table

IDS = torch.tensor([0, 1, 5, 90])


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_it_embeds_as_the_language_model_does(kind: str, tmp_path: Path) -> None:
    model = make_language_model(kind)
    model.save_pretrained(tmp_path)
    record = {"id": "them", "fingerprint": base_fingerprint(model)}
    table = load_embedding_table(tmp_path, record=record)
    assert torch.equal(table(IDS), model.get_input_embeddings()(IDS))


def test_precision_is_that_of_the_file_and_shards_are_found(tmp_path: Path) -> None:
    model = make_language_model().bfloat16()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    table = load_embedding_table(tmp_path)
    assert table.weight.dtype == torch.bfloat16
    assert torch.equal(table(IDS), model.get_input_embeddings()(IDS))


def test_of_shards_one_is_enough(tmp_path: Path) -> None:
    model = make_language_model()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    shard = tmp_path / json.loads(index.read_bytes())["weight_map"]["model.embed_tokens.weight"]
    wanted = {tmp_path / "config.json", index, shard}
    for path in tmp_path.iterdir():
        if path not in wanted:
            path.unlink()
    assert torch.equal(load_embedding_table(tmp_path)(IDS), model.get_input_embeddings()(IDS))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LangBridgeError, match=rf"{shard.name}: is damaged or not whole"):
        load_embedding_table(tmp_path)
    shard.unlink()
    with pytest.raises(LangBridgeError, match=rf"has no {shard.name}, which by its model\.safetensors\.index\.json"):
        load_embedding_table(tmp_path)
    index.write_text("{")
    with pytest.raises(LangBridgeError, match=r"index\.json: is damaged or not whole"):
        load_embedding_table(tmp_path)


def test_names_in_a_file_may_lack_their_beginning(tmp_path: Path) -> None:
    model = make_language_model("gpt2")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): value for name, value in weights.items()}
    save_file(bare, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_embedding_table(tmp_path)(IDS), model.get_input_embeddings()(IDS))


def test_what_is_not_the_bridges_language_model_is_refused(tmp_path: Path) -> None:
    model = make_language_model()
    model.save_pretrained(tmp_path)
    record = {"id": "them", "fingerprint": base_fingerprint(make_language_model("qwen2"))}
    with pytest.raises(LangBridgeError, match="a 'llama' model; expected a 'qwen2' model"):
        load_embedding_table(tmp_path, record=record)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 7}))
    with pytest.raises(LangBridgeError, match=r"has input embeddings of shape \[96, 48\] .* says \[7, 48\]"):
        load_embedding_table(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(LangBridgeError, match="no weights in safetensors"):
        load_embedding_table(tmp_path)
