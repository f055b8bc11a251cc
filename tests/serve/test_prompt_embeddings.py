"""Prompts embedded without the language model are those that the whole bridge gives it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from langbridge.errors import LangBridgeError
from langbridge.model import Connector
from langbridge.serve.engine import Request
from langbridge.serve.load import load_engine
from langbridge.serve.prompt_embeddings import PromptEmbedder

TALK = [
    {"role": "user", "content": "What is 12 + 30?"},
    {"role": "assistant", "content": "42"},
    {"role": "user", "content": "and 7 more?"},
]


@pytest.mark.parametrize("chats", [False, True])
def test_they_are_what_the_whole_bridge_gives_its_language_model(
    bridge_folder: Path, chat_bridge_folder: Path, chats: bool
) -> None:
    folder = chat_bridge_folder if chats else bridge_folder
    engine, embedder = load_engine(folder, device="cpu"), PromptEmbedder.load(folder, device="cpu", batch_size=2)
    requests = [Request("b"), Request("What is 12 + 30, please?"), Request("২৭ రె", prefix="So")]
    requests += [Request(messages=TALK)] if chats else []
    readings = engine.reader.read(requests)
    found = embedder.embed(readings)
    for reading, prompt in zip(readings, found, strict=True):
        inputs = engine._inputs([reading], "left")
        memory = engine.model.read(inputs["encoder_input_ids"], inputs["encoder_attention_mask"])
        expected = engine.model.embed(inputs["input_ids"], memory, inputs["attention_mask"])[0]
        assert prompt.shape == expected.shape == (len(reading.ids), 48)
        torch.testing.assert_close(prompt, expected.detach(), atol=1e-5, rtol=1e-4)  # other batches round otherwise
        assert prompt.untyped_storage().nbytes() == prompt.numel() * 4, "nobody else's prompt is in it"
    (own,) = engine.reader.read([Request("b")])
    table = engine.model.get_input_embeddings()
    assert torch.equal(embedder.embedded(own.ids[:1]), table(torch.tensor(own.ids[:1])).detach())


def test_of_the_language_model_a_folder_with_its_table_is_enough(
    bridge_folder: Path, base_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = PromptEmbedder.load(bridge_folder, device="cpu")
    moved = tmp_path / "bridge"
    shutil.copytree(bridge_folder, moved)
    model = AutoModelForCausalLM.from_pretrained(base_folders[1], dtype="auto")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    index = tmp_path / "shards" / "model.safetensors.index.json"
    shard = json.loads(index.read_bytes())["weight_map"]["model.embed_tokens.weight"]
    (moved / "language_model").mkdir()
    for name in ("config.json", index.name, shard):
        shutil.copy(tmp_path / "shards" / name, moved / "language_model" / name)
    # Nothing is taken from where the bridge was trained.
    config = json.loads((moved / "config.json").read_text())
    config["language_model_base"] |= {"id": "/gone", "relative": None}
    (moved / "config.json").write_text(json.dumps(config))
    found = PromptEmbedder.load(moved, encoder=base_folders[0], device="cpu")
    assert torch.equal(found.embedded([1, 5, 90]), whole.embedded([1, 5, 90]))


def test_a_connector_that_reaches_into_the_language_model_is_refused(
    bridge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connector, "injects", True)
    with pytest.raises(LangBridgeError, match=r"connector: \w+ reaches into the language model's layers"):
        PromptEmbedder.load(bridge_folder, device="cpu")
