"""Import of checkpoints in the published format, for connectors, languages models and files that the golden
folders do not cover."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny import PLACEHOLDER, make_batch, make_bridge

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import ConnectorSettings, import_official
from langbridge.model.official import _KINDS, _RENAMED


def publish(bridge, folder, connector="linear"):
    """A bridge in the published format; the folders of its bases have configs alone."""
    words = {ours: theirs for theirs, ours in _KINDS.items()}
    lm = bridge.language_model
    body = lm.get_submodule(lm.base_model_prefix)
    state = {f"lb.enc.{name}": tensor for name, tensor in bridge.encoder.state_dict().items()}
    state |= {f"lb.lm.{name}": tensor for name, tensor in body.state_dict().items()}
    state |= {
        "lb.lm_head.weight": lm.get_output_embeddings().weight,
        "lb.embeddings.weight": lm.get_input_embeddings().weight,
    }
    for name, tensor in bridge.connector.state_dict().items():
        old = next(
            (old + name.removeprefix(new) for old, new in _RENAMED[connector].items() if name.startswith(new)),
            name,
        )
        state[f"lb.alignment.{old}"] = tensor
    settings = {
        "enc": "org/encoder",
        "lm": "org/lm",
        "dim_enc": 32,
        "dim_lm": lm.get_input_embeddings().embedding_dim,
        "alignments": words[connector],
    }
    (folder / "official").mkdir()
    (folder / "official" / "config.json").write_text(json.dumps(settings))
    bridge.config.encoder_config.save_pretrained(folder / "enc")
    lm.config.save_pretrained(folder / "lm")
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def bring(folder):
    report = import_official(
        folder / "official", encoder=folder / "enc", language_model=folder / "lm", out=folder / "out"
    )
    return LangBridgeModel.from_pretrained(folder / "out"), report


@pytest.mark.parametrize(
    ("encoder", "language_model", "connector"),
    [
        ("mt5", "llama", "resampler"),
        ("umt5", "mistral", "linear"),
        ("mt5", "opt", "mlp"),
        ("umt5", "gpt2", "linear"),
        ("xlm-roberta", "gemma2", "linear"),
        ("t5", "qwen2", "linear"),
    ],
)
def test_every_kind_comes_through(tmp_path, encoder, language_model, connector):
    bridge = make_bridge(encoder, language_model, connector=ConnectorSettings.read(connector, num_latents=7))
    with torch.no_grad():
        for parameter in bridge.connector.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    torch.save(publish(bridge, tmp_path, connector), tmp_path / "official" / "pytorch_model.bin")
    model, report = bring(tmp_path)
    assert report.connector == model.config.connector == ConnectorSettings.read(connector, num_latents=7)
    assert model.config.soft_prompt_token_id == PLACEHOLDER
    assert not report.tokenizers
    assert any("no tokenizer" in note for note in report.notes)
    batch = make_batch(bridge)
    with torch.no_grad():
        torch.testing.assert_close(bridge(**batch).logits, model(**batch).logits, rtol=0, atol=1e-5)


def test_the_resampler_computes_what_was_published():
    """The published resampler, written out: 8 heads of 64 over states and latents, then projection, end
    vector, LayerNorm."""
    connector = make_bridge(connector={"kind": "resampler", "num_latents": 5}).connector
    with torch.no_grad():
        for parameter in connector.parameters():
            parameter.normal_(std=0.3)
    w = connector.state_dict()
    states, mask = torch.randn(2, 6, 32), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    latents = w["latents"].expand(2, -1, -1)
    inner = norm(latents, "norm_latents")
    read = torch.cat([norm(states, "norm_states"), inner], dim=1)
    q, k, v = (
        (x @ w[f"{name}.weight"].T).view(2, -1, 8, 64) for x, name in ((inner, "query"), (read, "key"), (read, "value"))
    )
    scores = torch.einsum("bqhd,bkhd->bhqk", q * 64**-0.5, k)
    visible = torch.cat([mask, torch.ones(2, 5, dtype=torch.long)], dim=1).bool()
    weights = scores.masked_fill(~visible[:, None, None], float("-inf")).softmax(-1)
    latents = latents + torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2) @ w["output.weight"].T
    hidden = torch.nn.functional.gelu(latents @ w["up.weight"].T + w["up.bias"])
    latents = latents + hidden @ w["down.weight"].T + w["down.bias"]
    soft = norm(torch.cat([latents @ w["project.weight"].T, w["end"].expand(2, 1, -1)], dim=1), "norm")
    got, got_mask = connector.eval()(states, mask)[:2]
    torch.testing.assert_close(got, soft, rtol=1e-5, atol=1e-5)
    assert got_mask.all()


@pytest.mark.parametrize("form", ["sharded bin", "safetensors", "sharded safetensors"])
def test_every_file_form(tmp_path, form):
    bridge = make_bridge()
    state = publish(bridge, tmp_path)
    official = tmp_path / "official"
    names = sorted(state)
    halves = [names[::2], names[1::2]] if "sharded" in form else [names]
    stem, suffix = ("pytorch_model", "bin") if "bin" in form else ("model", "safetensors")
    files = [f"{stem}.{suffix}"] if len(halves) == 1 else [f"{stem}-0000{i + 1}-of-00002.{suffix}" for i in range(2)]
    for file, half in zip(files, halves, strict=True):
        (torch.save if suffix == "bin" else save_file)({name: state[name] for name in half}, official / file)
    if len(halves) == 2:
        index = {"weight_map": {name: file for file, half in zip(files, halves, strict=True) for name in half}}
        (official / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    model, _ = bring(tmp_path)
    batch = make_batch(bridge)
    with torch.no_grad():
        torch.testing.assert_close(bridge(**batch).logits, model(**batch).logits, rtol=0, atol=1e-5)


def test_tokenizers_come_along(tmp_path, bases):
    from langbridge.model import build_bridge

    bridge, _ = build_bridge(*bases, new_token_ids=[])
    torch.save(publish(bridge, tmp_path), tmp_path / "official" / "pytorch_model.bin")
    for base, name in zip(bases, ("enc", "lm"), strict=True):
        for path in base.glob("token*"):
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    # the table lacks rows for the whitespace tokens, which a published encoder has
    with pytest.raises(LangBridgeError, match="rows"):
        bring(tmp_path)
    bridge.encoder.resize_token_embeddings(112, mean_resizing=False)
    bridge.config.encoder_config.vocab_size = 112
    for child in ("official", "enc", "lm"):
        for path in (tmp_path / child).iterdir():
            if path.name in ("config.json", "pytorch_model.bin"):
                path.unlink()
    (tmp_path / "official").rmdir()
    torch.save(publish(bridge, tmp_path), tmp_path / "official" / "pytorch_model.bin")
    model, report = bring(tmp_path)
    processor = LangBridgeProcessor.from_pretrained(tmp_path / "out")
    assert report.tokenizers
    assert model.generate(**processor(["Tom has\n3"]), max_new_tokens=2).shape[0] == 1


class Exploit:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_mistakes(tmp_path):
    bridge = make_bridge()
    state = publish(bridge, tmp_path)
    with pytest.raises(LangBridgeError, match=r"neither model.safetensors nor pytorch_model.bin"):
        bring(tmp_path)
    torch.save({"lb.enc.x": Exploit()}, tmp_path / "official" / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        bring(tmp_path)
    torch.save({**state, "model.x": torch.zeros(1)}, tmp_path / "official" / "pytorch_model.bin")
    with pytest.raises(LangBridgeError, match="none of the published format"):
        bring(tmp_path)
    torch.save(state, tmp_path / "official" / "pytorch_model.bin")
    wider = bridge.config.encoder_config.to_dict() | {"d_model": 40}
    (tmp_path / "enc" / "config.json").write_text(json.dumps(wider))
    with pytest.raises(LangBridgeError, match="shape"):
        bring(tmp_path)
    with pytest.raises(LangBridgeError, match=r"no config\.json"):
        import_official(tmp_path, out=tmp_path / "out")
