"""The trainer by itself: what it takes, what it trains, how it counts, and what stops it."""

import logging

import datasets
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import TrainerCallback, TrainingArguments

from langbridge.data import Example, LabelledCollator
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge
from langbridge.train import BridgeTrainer

PAIRS = [(f"say {'ab'[n % 2] * (n % 5 + 1)}", "ab"[n % 2] * (n % 3 + 1)) for n in range(16)]


class Pairs(Dataset):
    def __len__(self):
        return len(PAIRS)

    def __getitem__(self, row):
        return Example(*PAIRS[row], origin=f"pairs:{row}")


@pytest.fixture
def build(base_folders, tmp_path):
    def build(bridge=None, dataset=None, **settings):
        torch.manual_seed(0)
        model, processor = build_bridge(*base_folders, **(bridge or {}))
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "run"),
            **{
                "per_device_train_batch_size": 16, "learning_rate": 1e-2, "max_steps": 4, "logging_steps": 1,
                "lr_scheduler_type": "constant", "save_strategy": "no", "report_to": "none", "use_cpu": True,
                "label_names": ["labels"], **settings,
            },
        )  # fmt: skip
        collate = LabelledCollator(processor, max_encoder_length=32, max_length=64, with_rows=True)
        return BridgeTrainer(
            model=model,
            args=arguments,
            train_dataset=Pairs() if dataset is None else dataset,
            processing_class=processor,
            data_collator=collate if dataset is None else None,
        )

    return build


def curve(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_parameter_groups_of_the_paper(build):
    trainer = build({"freeze_encoder": False})
    bridge, encoder = trainer.create_optimizer().param_groups
    assert (bridge["lr"], bridge["weight_decay"]) == (1e-2, 0.0)
    assert (encoder["lr"], encoder["weight_decay"]) == (2e-5, 0.1)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    assert all(names[id(p)].startswith("encoder.") for p in encoder["params"])
    assert {names[id(p)] for p in bridge["params"]} >= {"connector.end", "connector.linear.weight"}
    assert not any(names[id(p)].startswith("language_model") for p in bridge["params"])


def test_what_is_frozen_has_neither_gradient_nor_optimiser_state(build):
    trainer = build()
    trainer.train()
    trained = set(trainer.model.connector.parameters())
    assert set(trainer.optimizer.optimizer.state) == trained
    assert all(parameter.grad is None for parameter in trainer.model.parameters() if parameter not in trained)


@pytest.mark.parametrize(
    ("layers", "freeze_encoder", "unused"),
    [(None, False, False), ([1], False, True), ([0, 2], False, False), ([1], True, False)],
)
def test_processes_look_for_weights_without_gradient_only_where_there_are_any(build, layers, freeze_encoder, unused):
    """Among the trained ones, as a real backward pass leaves them."""
    connector = {"kind": "linear", "encoder_layers": layers}
    trainer = build({"freeze_encoder": freeze_encoder, "connector": connector})
    assert trainer.accelerator.ddp_handler.find_unused_parameters == unused
    batch = trainer.data_collator([Pairs()[0]])
    batch.pop("rows")
    trainer.model.train()(**batch).loss.backward()
    assert unused == any(p.grad is None for p in trainer.model.parameters() if p.requires_grad)


def test_plain_arguments_and_a_plain_dataset_do(build):
    """Nothing of ours but the bridge: `TrainingArguments`, and a `datasets.Dataset` with its columns."""
    rows = datasets.Dataset.from_dict(
        {"query": [p for p, _ in PAIRS], "response": [t for _, t in PAIRS], "source": ["somewhere"] * len(PAIRS)}
    )
    trainer = build(dataset=rows, num_train_epochs=2, max_steps=-1, per_device_train_batch_size=4)
    trainer.train()
    losses = curve(trainer)
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert trainer.lengths == [len(p) + len(t) for p, t in PAIRS]
    with pytest.raises(LangBridgeError, match=r"row 1: no field 'query'; the row has 'prompt', 'answer'"):
        build(dataset=datasets.Dataset.from_dict({"prompt": ["a"], "answer": ["b"]}))


class Endless(IterableDataset):
    def __iter__(self):
        yield Example(*PAIRS[0])


REFUSED = {
    "label_smoothing_factor: got 0.1, expected 0": {"label_smoothing_factor": 0.1},
    "dataloader_drop_last: got True, expected False": {"dataloader_drop_last": True},
    "compute_metrics: expected none": {"compute_metrics": dict},
    "preprocess_logits_for_metrics: expected none": {"preprocess_logits_for_metrics": max},
    "train_dataset: got Endless, expected rows with a length": {"train_dataset": Endless()},
    "train_dataset: got IterableDataset, expected rows with a length": {
        "train_dataset": datasets.Dataset.from_dict({"query": ["a"], "response": ["b"]}).to_iterable_dataset()
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_would_be_wrong_or_passed_over_is_refused(tmp_path, message):
    ours = {"compute_metrics", "preprocess_logits_for_metrics", "train_dataset"}
    settings = {name: value for name, value in REFUSED[message].items() if name not in ours}
    given = {name: value for name, value in REFUSED[message].items() if name in ours}
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, **settings)
    with pytest.raises(LangBridgeError, match=message):
        BridgeTrainer(None, arguments, **given)


def test_a_collator_may_be_given_by_its_place(build):
    trainer = build()
    assert BridgeTrainer(trainer.model, trainer.args, trainer.data_collator).data_collator is trainer.data_collator


def test_the_loss_does_not_depend_on_how_an_update_is_cut_up(build):
    """Every update is the same 16 rows with targets of 2 to 4 tokens: a mean of means would differ in each."""
    curves = []
    for size, accumulated in ((16, 1), (8, 2), (3, 6)):
        trainer = build(per_device_train_batch_size=size, gradient_accumulation_steps=accumulated)
        trainer.train()
        curves.append(curve(trainer) + [float(p.detach().sum()) for p in trainer.model.connector.parameters()])
    trainer = build(per_device_train_batch_size=16)
    trainer.positions_per_pass = 40
    trainer.train()
    curves.append(curve(trainer) + [float(p.detach().sum()) for p in trainer.model.connector.parameters()])
    # Sums of 50 token losses in single precision, in another order.
    assert curves[3] == pytest.approx(curves[0], rel=1e-4, abs=1e-4)
    assert curves[1] == pytest.approx(curves[0], rel=1e-4, abs=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4, abs=1e-4)


def test_the_validation_loss_is_a_mean_over_target_tokens(build):
    trainer = build()
    everything = trainer.data_collator([Pairs()[row] for row in range(len(PAIRS))])
    everything.pop("rows")
    with torch.no_grad():
        expected = float(trainer.model(**everything).loss)
    for size in (16, 5):
        trainer.args.per_device_eval_batch_size = size
        assert trainer.evaluate(Pairs())["eval_loss"] == pytest.approx(expected, rel=1e-5)
    metrics = trainer.evaluate({"first": Pairs(), "second": Pairs()})
    assert "eval_loss" not in trainer.state.log_history[-1], "the first set's once more, without its name"
    assert {"eval_loss", "eval_first_loss", "eval_second_loss"} <= set(metrics)
    assert metrics["eval_first_tokens"] == int((everything["labels"] != -100).sum())


class Spoil(TrainerCallback):
    """Puts `value` into a weight or, later, into a gradient, at step 3."""

    def __init__(self, trainer, where, value):
        self.weight, self.where, self.value = trainer.model.connector.end, where, value
        if where == "gradient":
            self.weight.register_hook(self.in_gradient)
        self.step = 0

    def on_step_begin(self, args, state, control, **_):
        self.step = state.global_step + 1
        if self.where == "weight" and self.step == 3:
            self.weight.data[0] = self.value

    def in_gradient(self, gradient):
        return gradient * self.value if self.step == 3 else gradient


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("weight", float("nan"), r"step 3: the loss is nan, so the update was not made\. Rows: pairs:\d+, "),
        ("gradient", float("inf"), r"step 3: the gradient's norm is (inf|nan), .* Rows: pairs:\d+, "),
    ],
)
def test_a_step_that_is_not_finite_stops_before_the_optimiser_sees_it(build, where, value, message):
    trainer = build(per_device_train_batch_size=4, gradient_accumulation_steps=2)
    trainer.add_callback(Spoil(trainer, where, value))
    steps = []
    trainer.create_optimizer()
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    with pytest.raises(LangBridgeError, match=message):
        trainer.train()
    assert len(steps) == 2, "the optimiser saw the step"
    assert torch.isfinite(trainer.model.connector.linear.weight).all()


def test_the_log_has_speed_and_memory(build):
    trainer = build()
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert entry["tokens_per_second"] > 0
    assert 0.05 < entry["peak_memory_gib"] < 64


class Seen(TrainerCallback):
    def __init__(self):
        self.calls = []

    def on_save(self, args, state, control, **_):
        self.calls.append(("save", state.global_step))

    def on_evaluate(self, args, state, control, metrics=None, **_):
        self.calls.append(("evaluate", sorted(metrics)))

    def on_log(self, args, state, control, logs=None, **_):
        self.calls.append(("log", state.global_step))


def test_what_users_do_with_a_trainer_works(build, tmp_path):
    """Callbacks, TensorBoard, `save_model`, and going on by `resume_from_checkpoint=True`, to the same weights."""
    settings = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "report_to": "tensorboard"}
    whole, seen = build(**settings), Seen()
    whole.add_callback(seen)
    whole.train()
    assert [call for call in seen.calls if call[0] == "save"] == [("save", 2), ("save", 4)]
    assert ("log", 3) in seen.calls
    assert list(tmp_path.rglob("events.out.tfevents*"))
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]
    (tmp_path / "run").rename(tmp_path / "whole")
    build(max_steps=2, **settings).train()
    half_written = tmp_path / "run" / "checkpoint-3"
    half_written.mkdir()
    again = build(**settings)
    again.train(resume_from_checkpoint=True)
    assert not half_written.exists()
    assert again.state.global_step == 4
    assert curve(again) == curve(whole)
    for name, parameter in whole.model.connector.named_parameters():
        assert torch.equal(parameter, again.model.connector.get_parameter(name)), name
    again.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    (tmp_path / "run").rename(tmp_path / "again")
    with pytest.raises(LangBridgeError, match="no whole checkpoint is in"):
        build().train(resume_from_checkpoint=True)


def test_going_on_says_nothing_of_the_frozen_models(build, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    settings = {"save_strategy": "steps", "save_steps": 2}
    build(max_steps=2, **settings).train()
    with caplog.at_level("WARNING", "transformers"):
        build(**settings).train(resume_from_checkpoint=True)
    assert "missing keys" not in caplog.text
