"""The plan of a run against what is published, and against real models that are small enough to build."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge
from langbridge.model.encoders import build_encoder
from langbridge.train import Recipe
from langbridge.train.plan import GIB, Plan, plan
from langbridge.train.plan.activations import kept_by_encoder, kept_by_language_model
from langbridge.train.plan.shapes import BASES, known_bases, shapes_of

XL, XXL = "DKYoon/mt5-xl-lm-adapt", "DKYoon/mt5-xxl-lm-adapt"


def recipe(encoder: Any, language_model: Any, data: Any = "OWNER/rows", **settings: Any) -> Recipe:
    path = settings.pop("folder", None)
    lines = [f"language_model: {language_model}", f"data: {{path: {data}}}"]
    lines += [] if encoder is None else [f"encoder: {encoder}"]
    assert path is not None
    (path / "recipe.yaml").write_text("\n".join(lines) + "\n")
    return Recipe.load(path / "recipe.yaml", [f"{key.replace('__', '.')}={value}" for key, value in settings.items()])


@pytest.fixture
def planned(tmp_path: Path):
    """Plans a recipe of two bases; `gpus`, `sharding` and `gpu_memory` are the plan's, the rest are settings."""

    def planned(encoder: Any, language_model: Any, **settings: Any) -> Plan:
        options = {key: settings.pop(key) for key in ("gpus", "sharding", "gpu_memory") if key in settings}
        return plan(recipe(encoder, language_model, folder=tmp_path, **settings), **options)

    return planned


def part(found: Plan, name: str) -> Any:
    return next(part for part in found.parts if part.name == name)


SMALL = {"train__per_device_train_batch_size": 1, "min_encoder_length": 1, "max_encoder_length": 8, "max_length": 16}
"""Sizes of a step that cost nothing to count; totals do not depend on them."""


@pytest.mark.parametrize(
    ("encoder", "language_model", "billions"),
    [
        # The published sizes: Llama 2's two models, mT5's encoders, and the sums on the bridges' own pages.
        (XL, "meta-llama/Llama-2-7b-hf", {"encoder": "1.67", "language model": "6.74", "all": "8.42"}),
        (XL, "meta-math/MetaMath-7B-V1.0", {"encoder": "1.67", "language model": "6.74", "all": "8.42"}),
        (XL, "meta-math/MetaMath-13B-V1.0", {"encoder": "1.67", "language model": "13.0", "all": "14.7"}),
        (XXL, "microsoft/Orca-2-13b", {"encoder": "5.7", "language model": "13.0", "all": "18.7"}),
        (XXL, "codellama/CodeLlama-13b-hf", {"encoder": "5.7", "language model": "13.0", "all": "18.7"}),
    ],
)
def test_totals_are_the_published_ones(planned, encoder: str, language_model: str, billions: dict) -> None:
    found = planned(encoder, language_model, **SMALL)
    totals = {part.name: part.parameters for part in found.parts} | {"all": found.parameters}
    for name, published in billions.items():
        digits = len(published.partition(".")[2])
        assert f"{totals[name] / 1e9:.{digits}f}" == published, name
    # 2048 x 4096 + 4096, and the end vector's 4096, where the widths are these.
    if encoder == XL and "7" in language_model:
        assert part(found, "connector").parameters == 8_396_800


def test_every_base_that_the_package_knows_has_shapes_of_its_kind() -> None:
    assert len(known_bases()) == len(list(BASES.glob("*.json"))) > 10
    for base in known_bases():
        config, _ = shapes_of(base, "base")
        assert config.model_type in {"bert", "mt5", "llama", "qwen2", "bloom"}
        assert (BASES / f"{base.replace('/', '--')}.json").is_file()


@pytest.mark.parametrize("regime", ["labelled", "unlabelled"])
def test_a_plan_counts_what_a_real_bridge_has(planned, base_folders, tmp_path: Path, regime: str) -> None:
    encoder, language_model = base_folders
    found = planned(encoder, language_model, regime=regime, template="A\t{prompt}", **SMALL)
    model, _ = build_bridge(encoder, language_model, template="A\t{prompt}")
    # The tab of the template is a new token of this encoder's tokenizer, so that its row is trained.
    model.set_training_regime(freeze_encoder=regime == "labelled", train_new_rows=True)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.save_pretrained(tmp_path / "checkpoint")
    size = (tmp_path / "checkpoint" / "model.safetensors").stat().st_size
    # safetensors adds a header with the tensors' names.
    assert found.checkpoint <= size <= found.checkpoint + 16_384
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = [t for state in optimizer.state.values() for name, t in state.items() if name != "step"]
    assert found.resume_state == sum(t.numel() * t.element_size() for t in states)


def really_kept(model: torch.nn.Module, run) -> int:
    """Bytes that autograd keeps of a real forward pass, parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_are_those_of_a_real_step(base_folders, bf16: bool) -> None:
    """The CPU's own attention is a fused kernel too, so that the two counts differ by little: tables of positions, and
    masks that a real pass leaves out where nothing is padded. A relative bias that is trained has no such kernel on
    the CPU, so it is frozen here; dropout neither, so there is none."""
    rows, length = 8, 64
    language_model = AutoModelForCausalLM.from_pretrained(base_folders[1]).model.requires_grad_(False)
    encoder_config = AutoConfig.from_pretrained(base_folders[0], dropout_rate=0.0)
    encoder = build_encoder(encoder_config).train()
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("relative_attention_bias" not in name)
    embeds = torch.zeros(rows, length, 48, requires_grad=True)
    ids = torch.ones(rows, length, dtype=torch.long)
    mask = ids.clone()
    mask[0, -1] = 0  # some padding, or the language model would leave its mask out

    def read_lm() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            language_model(inputs_embeds=embeds, attention_mask=mask, use_cache=False)

    def read_encoder() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            encoder(input_ids=ids, attention_mask=mask)

    settings = {"dtype": torch.float32, "bf16": bf16}
    counted = kept_by_language_model(language_model.config, rows, length, trained=frozenset(), **settings)
    assert counted == pytest.approx(really_kept(language_model, read_lm), rel=0.1)
    counted = kept_by_encoder(encoder_config, rows, length, trained=True, **settings)
    assert counted == pytest.approx(really_kept(encoder, read_encoder), rel=0.1)


def test_a_frozen_encoder_keeps_nothing_unless_new_rows_are_trained(planned, base_folders) -> None:
    plain = planned(*base_folders, **SMALL)
    assert part(plain, "encoder").activations == 0
    assert part(plain, "new rows").trained == 0
    spaced = planned(*base_folders, template="A\t{prompt}", **SMALL)
    assert part(spaced, "encoder").activations > 0
    assert part(spaced, "new rows").trained == part(spaced, "new rows").parameters > 0


def test_sharding_divides_what_it_says(planned, base_folders) -> None:
    settings = {"regime": "unlabelled", **SMALL}
    whole = planned(*base_folders, gpus=1, **settings)
    zero2 = planned(*base_folders, gpus=4, sharding="zero2", **settings)
    zero3 = planned(*base_folders, gpus=4, sharding="zero3", **settings)
    many = planned(*base_folders, gpus=4, **settings)
    for name in ("encoder", "language model"):
        one, two, three = part(whole, name), part(zero2, name), part(zero3, name)
        assert two.weights == one.weights
        assert three.weights == pytest.approx(one.weights / 4, abs=1)
        for found in (two, three):
            assert found.gradients == pytest.approx(one.gradients / 4, abs=1)
            assert found.optimiser == pytest.approx(one.optimiser / 4, abs=1)
            assert found.activations == one.activations
    # Plain data parallelism holds everything on each, and the buckets that it reduces besides.
    assert part(many, "encoder").gradients == 2 * part(whole, "encoder").gradients
    assert part(many, "encoder").optimiser == part(whole, "encoder").optimiser
    # What is cut up is whole for a moment.
    assert part(zero3, "gathered").weights > 0
    assert [p.name for p in zero2.parts if p.name == "gathered"] == []


def test_deepspeed_in_bf16_halves_the_weights_and_keeps_a_master_copy(planned, base_folders) -> None:
    settings = {"regime": "unlabelled", "train__bf16": "true", **SMALL}
    encoder = part(planned(*base_folders, sharding="zero2", **settings), "encoder")
    assert encoder.weights == 2 * encoder.parameters
    assert encoder.optimiser == 12 * encoder.trained


def test_the_recipe_says_how_it_is_sharded(planned, base_folders, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    assert planned(*base_folders, train__deepspeed=tmp_path / "ds.json", **SMALL).sharding == "zero3"
    assert planned(*base_folders, train__fsdp="true", **SMALL).sharding == "fsdp"
    assert planned(*base_folders, **SMALL).sharding == "none"
    (tmp_path / "ds.json").write_text("[]")
    with pytest.raises(LangBridgeError, match=r"train\.deepspeed: .*ds\.json is not a DeepSpeed configuration"):
        planned(*base_folders, train__deepspeed=tmp_path / "ds.json", **SMALL)


def test_adapters_are_counted_as_peft_makes_them(planned, base_folders) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (the extra lora)")
    found = planned(*base_folders, lora__r=3, **SMALL)
    model = AutoModelForCausalLM.from_pretrained(base_folders[1])
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert part(found, "adapters").trained == adapted.get_nb_trainable_parameters()[0]
    for names, dora in (
        (["q_proj", "v_proj"], False),
        (["embed_tokens", "lm_head"], False),
        (["q_proj", "embed_tokens"], True),
    ):
        named = planned(*base_folders, lora__r=3, lora__dora=dora, lora__target_modules=",".join(names), **SMALL)
        adapted = peft.get_peft_model(
            AutoModelForCausalLM.from_pretrained(base_folders[1]),
            peft.LoraConfig(r=3, target_modules=names, use_dora=dora, task_type="CAUSAL_LM"),
        )
        assert part(named, "adapters").trained == adapted.get_nb_trainable_parameters()[0]


def test_a_plain_language_model_is_trained_whole(planned, base_folders) -> None:
    found = planned(None, base_folders[1], regime="lm_only", **SMALL)
    assert [p.name for p in found.parts] == ["language model", "logits"]
    assert found.trained == found.parameters
    assert found.encoder_tokens is None


def test_recomputation_saves_memory(planned, base_folders) -> None:
    settings = SMALL | {"train__per_device_train_batch_size": 8}
    kept = part(planned(*base_folders, **settings), "language model").activations
    less = part(
        planned(*base_folders, train__activation_checkpointing="true", **settings), "language model"
    ).activations
    assert 0 < less < kept
    one_row = {**SMALL, "train__per_device_train_batch_size": 1}
    in_passes = planned(*base_folders, train__positions_per_pass=1, **settings)
    alone = planned(*base_folders, **one_row)
    assert part(in_passes, "language model").activations == part(alone, "language model").activations < kept


def test_a_frozen_encoder_keeps_its_activations(planned, base_folders) -> None:
    """Which new rows need; transformers recomputes in train mode, and what is frozen is in eval mode."""
    settings = {"template": "A\t{prompt}", **SMALL, "train__per_device_train_batch_size": 8}
    kept = planned(*base_folders, **settings)
    recomputed = planned(*base_folders, train__activation_checkpointing="true", **settings)
    assert part(recomputed, "encoder") == part(kept, "encoder")
    assert any("not recomputed" in note for note in recomputed.notes)


def test_fewer_layers_keep_less(planned, base_folders) -> None:
    whole, half = (
        planned(*base_folders, objective="distil", **SMALL, **fewer) for fewer in ({}, {"distil__layers": 1})
    )
    kept, less = (part(found, "language model").activations for found in (whole, half))
    assert 0.4 * kept < less < 0.6 * kept, "one of two layers"
    assert part(whole, "logits").activations > part(half, "logits").activations == 0
    assert half.parameters == whole.parameters


def test_what_is_not_counted_of_a_connector_is_said(planned, base_folders) -> None:
    said = "what LayerwiseConnector keeps inside the language model's layers"
    assert any(said in note for note in planned(*base_folders, connector="layerwise").notes)
    assert not any(said in note for note in planned(*base_folders).notes)


def test_precision_decides_the_weights_memory(planned, base_folders) -> None:
    wide = part(planned(*base_folders, **SMALL), "language model")
    narrow = part(planned(*base_folders, dtype="bfloat16", **SMALL), "language model")
    assert (wide.weights, narrow.weights) == (4 * wide.parameters, 2 * wide.parameters)


def test_steps_and_tokens(planned, base_folders, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "response": "b"}\n' * 21)
    settings = {"train__per_device_train_batch_size": 2, "train__gradient_accumulation_steps": 2,
                "max_encoder_length": 8, "max_length": 16, "data": tmp_path / "rows.jsonl"}  # fmt: skip
    found = planned(*base_folders, gpus=2, train__num_train_epochs=3, **settings)
    # 21 rows are 6 batches of 2 x 2, and these 3 updates of two; three epochs are 9.
    assert (found.rows_per_step, found.steps) == (8, 9)
    assert (found.encoder_tokens, found.lm_tokens) == (9 * 8 * 8, 9 * 8 * 16)
    assert planned(*base_folders, train__max_steps=5, **settings).steps == 5
    elsewhere = planned(*base_folders, **settings | {"data": "OWNER/rows"})
    assert elsewhere.steps is None
    assert any("only one local JSON lines file is counted here" in note for note in elsewhere.notes)
    absent = planned(*base_folders, **settings | {"data": tmp_path / "absent.jsonl"})
    assert absent.steps is None
    assert any(f"data.path: no such file: {tmp_path / 'absent.jsonl'}" in note for note in absent.notes)


def test_a_stream_has_reading_scores_of_held_out_rows_alone(planned, base_folders) -> None:
    settings = {**SMALL, "train__max_steps": 100, "train__reading_score_rows": 16}
    assert planned(*base_folders, **settings).reading == (3, 16)
    streamed = {**settings, "data__streaming": True}
    assert planned(*base_folders, **streamed).reading is None
    assert planned(*base_folders, **streamed, data__validation_path="held_out.jsonl").reading == (3, 16)


def test_whether_it_fits(planned, base_folders) -> None:
    found = planned(*base_folders, gpu_memory=1.0, **SMALL)
    assert found.fits
    assert "  fits: " in found.as_text()
    tight = planned(*base_folders, gpu_memory=found.memory / GIB / 2, **SMALL)
    assert tight.fits is False
    assert "  does not fit: " in tight.as_text()
    assert planned(*base_folders, **SMALL).fits is None


def test_the_text_adds_up(planned) -> None:
    found = planned(XL, "meta-llama/Llama-2-7b-hf", gpus=4, train__max_steps=1563, **SMALL)
    lines = found.as_text().splitlines()
    (whole,) = [line.split() for line in lines if line.startswith("  all") and "," in line]
    assert whole == ["all", f"{found.parameters:,}", f"{found.trained:,}"]
    (memory,) = [line.split() for line in lines if line.startswith("  all") and "," not in line]
    assert float(memory[-1]) == pytest.approx(found.memory / GIB, abs=0.005)
    assert "checkpoint        32.0 MiB, and 64.1 MiB to go on from it" in lines
    assert "steps             1,563, of 16 rows" in lines


def test_a_base_that_is_nowhere_is_one_clear_error(planned) -> None:
    with pytest.raises(LangBridgeError) as raised:
        planned(XL, "nobody/nothing", **SMALL)
    assert "language model: 'nobody/nothing'" in str(raised.value)
    assert "meta-llama/Llama-2-7b-hf" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_no_matter_of_ids(planned) -> None:
    with pytest.raises(
        LangBridgeError, match=r"encoder: there is no folder at '\./nowhere'; give an existing"
    ) as raised:
        planned("./nowhere", "meta-llama/Llama-2-7b-hf", **SMALL)
    assert "Qwen" not in str(raised.value)


def test_bases_of_the_wrong_kind_are_refused(planned) -> None:
    with pytest.raises(LangBridgeError, match="Were encoder and language model exchanged"):
        planned("meta-llama/Llama-2-7b-hf", XL, **SMALL)


def test_no_gpu_is_no_plan(planned, base_folders) -> None:
    with pytest.raises(LangBridgeError, match="gpus: expected at least 1, got 0"):
        planned(*base_folders, gpus=0, **SMALL)
