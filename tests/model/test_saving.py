"""What a small checkpoint cannot hold is not lost in silence, and where its bases are is written down."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from tiny import make_batch, make_bridge

from langbridge import LangBridgeModel
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge, export_merged
from langbridge.model.saving import write_merged


@pytest.fixture
def bridge(bases):
    return build_bridge(*bases)[0]


def logits(model):
    with torch.no_grad():
        return model(**make_batch(model)).logits


def adapted(model, **kwargs):
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **kwargs)
    )
    return wrapped


def test_adapters_are_not_lost(bridge, tmp_path):
    peft = pytest.importorskip("peft")
    bridge.add_adapter(peft.LoraConfig(r=4, target_modules=["q_proj"]))
    with pytest.raises(LangBridgeError, match=r"layers have some of PEFT.*merge_and_unload.*export_merged"):
        bridge.save_pretrained(tmp_path / "small")
    with pytest.raises(LangBridgeError, match="layers have some of PEFT"):
        export_merged(bridge, tmp_path / "whole")
    assert not list(tmp_path.iterdir())


def test_a_language_model_with_adapters_merged_in_is_written_whole(bridge, tmp_path):
    before = logits(bridge)
    merged = adapted(bridge).merge_and_unload()
    with pytest.raises(LangBridgeError, match=r"no longer '.*lm'.*weights differ.*export_merged"):
        merged.save_pretrained(tmp_path / "small")
    loaded = LangBridgeModel.from_pretrained(export_merged(merged, tmp_path / "whole"))
    assert not torch.equal(before, logits(loaded))
    assert torch.equal(logits(merged), logits(loaded))
    assert loaded.config.language_model_base["id"] is None, "a base that nobody else has"


def test_an_encoder_with_adapters_merged_in_is_kept(bridge, tmp_path):
    """Frozen again, and none of the weights that a fingerprint samples need have changed."""
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(bridge, peft.LoraConfig(r=4, target_modules=["q"]))
    batch = make_batch(bridge)
    for _ in range(2):  # the first step moves one half of an adapter alone
        wrapped(**batch, labels=batch["input_ids"]).loss.backward()
        torch.optim.SGD([one for one in wrapped.parameters() if one.requires_grad], lr=10.0).step()
    merged = wrapped.merge_and_unload()
    merged.save_pretrained(tmp_path)
    assert torch.equal(logits(merged), logits(LangBridgeModel.from_pretrained(tmp_path)))
    assert LangBridgeModel.from_pretrained(tmp_path).config.encoder_trained


def test_a_table_of_another_size_is_written_whole(bridge, tmp_path):
    rows = bridge.table_rows
    bridge.resize_token_embeddings(rows)
    bridge.save_pretrained(tmp_path / "same")
    bridge.resize_token_embeddings(rows + 5)
    with pytest.raises(LangBridgeError, match=rf"table has {rows + 5} rows; it had {rows}"):
        bridge.save_pretrained(tmp_path / "small")
    loaded = LangBridgeModel.from_pretrained(export_merged(bridge, tmp_path / "whole"))
    assert loaded.get_input_embeddings().num_embeddings == rows + 5
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(bridge), logits(LangBridgeModel.from_pretrained(tmp_path / "again")))


def test_a_language_model_that_was_trained_is_written_whole(bridge, tmp_path):
    with torch.no_grad():
        for parameter in bridge.language_model.parameters():
            parameter.mul_(1.1)
    with pytest.raises(LangBridgeError, match="export_merged"):
        bridge.save_pretrained(tmp_path / "small")


def test_an_encoder_that_was_trained_by_hand_is_kept(bridge, tmp_path):
    """Whole, and the few weights of it that are still marked as trained."""
    bridge.save_pretrained(tmp_path / "before")
    with torch.no_grad():
        for parameter in bridge.encoder.parameters():
            parameter.mul_(1.1)
    bridge.save_pretrained(tmp_path / "whole")
    assert torch.equal(logits(bridge), logits(LangBridgeModel.from_pretrained(tmp_path / "whole")))
    other = LangBridgeModel.from_pretrained(tmp_path / "before")
    assert not other.config.encoder_trained
    bias = next(parameter for parameter in other.encoder.parameters() if parameter.ndim == 1)
    bias.requires_grad_(True)
    before = bias.detach().clone()
    batch = make_batch(other)
    other(**batch, labels=batch["input_ids"]).loss.backward()
    torch.optim.SGD([bias], lr=1.0).step()
    assert not torch.equal(bias, before), "what is marked is trained, whatever the config says"
    for name, given in (("few", {}), ("given", {"state_dict": other.state_dict()})):
        other.save_pretrained(tmp_path / name, **given)
        assert torch.equal(logits(other), logits(LangBridgeModel.from_pretrained(tmp_path / name)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_precision_is_the_same_language_model(bridge, tmp_path, dtype):
    bridge.language_model.to(dtype).float()
    bridge.save_pretrained(tmp_path)
    LangBridgeModel.from_pretrained(tmp_path)


def test_a_compiled_or_unallocated_language_model_is_the_same(tmp_path):
    bridge = make_bridge()
    bridge.language_model = torch.compile(bridge.language_model, backend="eager")
    bridge.save_pretrained(tmp_path / "compiled")
    bridge = make_bridge()
    bridge.language_model.to("meta")
    bridge.save_pretrained(tmp_path / "meta")


def test_weights_that_are_given_say_nothing_of_the_language_model(bridge, tmp_path):
    """In a sharded model they are in pieces, which no process may look into alone."""
    state = bridge.state_dict()
    with torch.no_grad():
        for parameter in bridge.language_model.parameters():
            parameter.zero_()
    bridge.save_pretrained(tmp_path, state_dict=state)
    LangBridgeModel.from_pretrained(tmp_path)


def test_bases_inside_another_checkpoint_are_found_there(bases, tmp_path):
    mine = [shutil.copytree(base, tmp_path / "mine" / base.name) for base in bases]
    bridge = build_bridge(*mine)[0]
    bridge.save_pretrained(tmp_path / "first")
    merged = export_merged(tmp_path / "first", tmp_path / "merged")
    shutil.rmtree(tmp_path / "mine")
    shutil.rmtree(tmp_path / "first")
    model = LangBridgeModel.from_pretrained(merged)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(bridge), logits(LangBridgeModel.from_pretrained(tmp_path / "again")))
    model.save_pretrained(merged)
    (tmp_path / "again").rename(tmp_path / "alone")
    merged.rename(tmp_path / "moved")
    assert torch.equal(logits(bridge), logits(LangBridgeModel.from_pretrained(tmp_path / "moved")))
    with pytest.raises(LangBridgeError, match="its recorded place is gone"):
        LangBridgeModel.from_pretrained(tmp_path / "alone")


def test_no_place_of_this_machine_is_in_a_merged_checkpoint(bridge, tmp_path):
    bridge.config.encoder_base["found"] = bridge.config.encoder_base["relative"] = str(tmp_path)
    (tmp_path / "out").mkdir()
    write_merged(bridge, tmp_path / "out")
    assert '"found"' not in (tmp_path / "out" / "config.json").read_text()


class Hub:
    """What is uploaded, in the place of the hub's own client."""

    def __init__(self):
        self.repos, self.files = [], {}

    def create_repo(self, repo_id, **options):
        self.repos.append((repo_id, options))
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, operations, **options):
        self.message = options["commit_message"]
        self.files = {one.path_in_repo: Path(one.path_or_fileobj).read_bytes() for one in operations}


@pytest.fixture
def hub(monkeypatch):
    fake = Hub()
    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: fake)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: ModelCard("# a bridge"))
    return fake


def on_the_hub(bridge):
    bridge.config.encoder_base["id"], bridge.config.language_model_base["id"] = "google/mt5-small", "me/lm"
    return bridge


def test_what_is_saved_is_uploaded_where_that_is_asked_for(bridge, hub, tmp_path):
    bridge = on_the_hub(bridge)
    bridge.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="me/bridge", private=True, commit_message="One")
    assert hub.repos == [("me/bridge", {"private": True, "token": None, "exist_ok": True})]
    assert hub.message == "One"
    assert hub.files["model.safetensors"] == (tmp_path / "mine" / "model.safetensors").read_bytes()
    bridge.save_pretrained(tmp_path / "mine", push_to_hub=True)
    assert hub.repos[1][0] == "mine"
    bridge.save_pretrained(tmp_path / "other", is_main_process=False, push_to_hub=True)
    assert len(hub.repos) == 2
    assert not (tmp_path / "other").exists()


def test_nothing_is_uploaded_that_nobody_else_could_load(bridge, hub):
    with pytest.raises(LangBridgeError, match=r"encoder: '.*' is only here.*langbridge export.*hf upload"):
        bridge.push_to_hub("me/bridge")
    on_the_hub(bridge).config.language_model_base["id"] = None
    with pytest.raises(LangBridgeError, match=r"language model: 'a model' is only here.*language_model_base\['id'\]"):
        bridge.push_to_hub("me/bridge")
    assert not hub.repos


def test_no_place_of_this_machine_is_uploaded(bridge, hub, tmp_path):
    mine = bridge.config.encoder_base
    bridge.config.encoder_trained = True  # then it is in the checkpoint
    bridge.config.language_model_base |= {"id": "me/lm", "found": str(tmp_path / "merged" / "language_model")}
    bridge.push_to_hub("me/bridge")
    config = json.loads(hub.files["config.json"])
    assert config["encoder_base"]["id"] is None
    assert not [
        part["_name_or_path"] for part in (config["encoder_config"], config["text_config"]) if part.get("_name_or_path")
    ]
    assert config["language_model_base"].keys() == {"id", "revision", "fingerprint"}
    assert bridge.config.encoder_base is mine
    assert "found" in bridge.config.language_model_base
