"""What is known of a connector without building it, how it is named, and how other packages bring theirs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import ENCODERS, make_bridge

from langbridge.errors import LangBridgeError
from langbridge.model import ConnectorSettings, LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.model.connectors.settings import GROUP, LinearSettings, ResamplerSettings

PROMPTS = ["Q a", "a longer prompt of more tokens"]


def soft_prompts(model: LangBridgeModel, processor: LangBridgeProcessor) -> torch.Tensor:
    batch = processor(PROMPTS)
    with torch.no_grad():
        return model.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])[0]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("linear", LinearSettings()),
        ({"kind": "linear"}, LinearSettings()),
        ("resampler", ResamplerSettings(num_latents=64)),
        ({"kind": "resampler", "num_latents": "8"}, ResamplerSettings(num_latents=8)),
        (ResamplerSettings(num_latents=3), ResamplerSettings(num_latents=3)),
    ],
)
def test_a_connector_is_named_by_its_kind_or_by_kind_and_settings(named, expected) -> None:
    settings = ConnectorSettings.read(named)
    assert settings == expected
    assert ConnectorSettings.read(settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("cubic", "connector: expected one of linear, layerwise, mlp, resampler, got 'cubic'"),
        ({"kind": "cubic"}, "connector: expected one of linear, layerwise, mlp, resampler, got 'cubic'"),
        ({"num_latents": 3}, "connector: expected a kind .linear, layerwise, mlp, resampler., or a mapping"),
        (3, "connector: expected a kind .linear, layerwise, mlp, resampler., or a mapping"),
        ({"kind": "resampler", "latents": 3}, "connector.latents: unknown key; did you mean connector.num_latents"),
        ({"kind": "linear", "num_latents": 3}, "connector.num_latents: unknown key; known here: kind"),
        ({"kind": "linear", "token_aligned": False}, "connector.token_aligned: unknown key"),
        (
            {"kind": "linear", "encoder_layers": [-1]},
            r"connector.encoder_layers\[0\]: expected greater than or equal to 0",
        ),
        ({"kind": "linear", "encoder_layers": 6}, "connector.encoder_layers: expected a list, got 6"),
        ({"kind": "resampler", "num_latents": 0}, "connector.num_latents: expected greater than 0, got 0"),
    ],
)
def test_a_wrong_kind_or_setting_is_told_with_what_there_is(named, message) -> None:
    with pytest.raises(LangBridgeError, match=message):
        ConnectorSettings.read(named)


def test_lengths_are_known_both_ways() -> None:
    class Pooled(ConnectorSettings):
        def soft_length(self, src_length: int) -> int:
            return -(-src_length // 4)

    linear, resampler, pooled = LinearSettings(), ResamplerSettings(num_latents=5), Pooled(kind="pooled")
    assert [s.soft_length(9) for s in (linear, resampler, pooled)] == [9, 5, 3]
    assert [s.longest_source(7) for s in (linear, resampler, pooled)] == [7, None, 28]
    assert str(linear) == "linear"
    assert str(resampler) == "resampler (num_latents 5)"


def test_settings_are_read_without_torch() -> None:
    code = (
        "import sys; from langbridge.model.connectors.settings import ConnectorSettings as S;"
        "kinds = ('linear', 'layerwise', 'mlp', 'resampler');"
        "print([S.read(kind).soft_length(3) for kind in kinds], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[3, 3, 3, 64] False", done.stderr


@pytest.mark.parametrize("named", ["linear", {"kind": "resampler", "num_latents": 5}])
def test_a_checkpoint_of_old_loads_with_the_same_result(base_folders, tmp_path, named) -> None:
    """Its connector was a word, and the number of latents stood beside it, whatever the kind."""
    model, processor = build_bridge(*base_folders, connector=named)
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    for name in ("config.json", "processor_config.json"):
        written = json.loads((tmp_path / name).read_text())
        assert written["connector"] == model.config.connector.to_dict()
        assert "num_latents" not in written
        settings = written.pop("connector")
        written |= {"connector": settings["kind"], "num_latents": settings.get("num_latents", 64)}
        (tmp_path / name).write_text(json.dumps(written))
    loaded, read = LangBridgeModel.from_pretrained(tmp_path), LangBridgeProcessor.from_pretrained(tmp_path)
    assert loaded.config.connector == read.connector == model.config.connector
    assert torch.equal(read(PROMPTS)["input_ids"], processor(PROMPTS)["input_ids"])
    torch.testing.assert_close(soft_prompts(loaded, read), soft_prompts(model, processor), rtol=0, atol=0)


def install(folder: Path, kind: str, value: str) -> None:
    """What an installer leaves of a package with one entry point."""
    about = folder / f"{kind}_connector-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {kind}-connector\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{kind} = {value}\n")


def test_another_package_s_kind_is_found_and_a_wrong_one_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "wrong", "json:loads")
    with pytest.raises(LangBridgeError, match=r"'wrong' of 'langbridge.connectors' is json:loads, expected a subclass"):
        ConnectorSettings.read("wrong")
    install(tmp_path, "also", "langbridge.model.connectors.settings:LinearSettings")
    assert ConnectorSettings.read("also").soft_length(3) == 3
    with pytest.raises(
        LangBridgeError, match=r"expected one of linear, layerwise, mlp, resampler, also, wrong, got 'cubic'"
    ):
        ConnectorSettings.read("cubic")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_connector_reads_the_layers_that_it_asks_for(encoder) -> None:
    """The last by its number gives the same as by default; several stand side by side, also behind padding."""
    plain = make_bridge(encoder)
    depth = plain.encoder.config.get_text_config().num_hidden_layers
    ids, mask = torch.tensor([[7, 90, 8, 9], [11, 8, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    last, several, first = (
        make_bridge(encoder, connector={"kind": "linear", "encoder_layers": layers})
        for layers in ([depth], [1, depth], [0, 1])
    )
    expected = plain.encode(ids, mask)
    torch.testing.assert_close(last.encode(ids, mask), expected, rtol=0, atol=0)
    lower, upper = several.encode(ids, mask).chunk(2, dim=-1)
    torch.testing.assert_close(upper, expected, rtol=0, atol=0)
    torch.testing.assert_close(first.encode(ids, mask).chunk(2, dim=-1)[1], lower, rtol=0, atol=0)
    torch.testing.assert_close(several.encode(ids[1:, :2])[0], several.encode(ids, mask)[1, :2])
    with pytest.raises(LangBridgeError, match=rf"encoder_layers: got \[1, {depth + 1}\], but the encoder has {depth}"):
        make_bridge(encoder, connector={"kind": "linear", "encoder_layers": [1, depth + 1]})


@pytest.mark.parametrize("kind", ["linear", "layerwise", "mlp", "resampler"])
def test_layers_are_saved_with_the_connector(base_folders, tmp_path, kind) -> None:
    connector = {"kind": kind, "encoder_layers": [0, 2]}
    model, processor = build_bridge(*base_folders, connector=connector)
    model.save_pretrained(tmp_path)
    loaded = LangBridgeModel.from_pretrained(tmp_path)
    assert loaded.config.connector.encoder_layers == (0, 2)
    torch.testing.assert_close(soft_prompts(loaded, processor), soft_prompts(model, processor), rtol=0, atol=0)
    model(**processor(PROMPTS, targets=["a", "b"])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.connector.parameters())
