"""The reading score: what is swapped, what is counted, and that it tells a reader from one that does not read."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from langbridge.model import ConnectorSettings, build_bridge
from langbridge.model.reading import ReadingScore, reading_score, with_other_prompts
from langbridge.train.hyperparameters import Train
from langbridge.train.reading import PlateauWarning, ReadingMonitor

PAIRS = [("say a", "aa"), ("say aaaa", "aaaa"), ("say bb", "b"), ("ab", "abab"), ("say b" * 4, "bb")]


@pytest.fixture(params=["linear", "resampler"])
def bridge(base_folders, request):
    return build_bridge(
        *base_folders,
        connector=ConnectorSettings.read(request.param, num_latents=3),
        template="Q: {prompt}\nA:",
        template_in="lm",
    )


def batch_of(processor, pairs):
    prompts, targets = zip(*pairs, strict=True)
    return dict(processor(list(prompts), targets=list(targets), return_tensors="pt"))


def real(batch, name, row):
    mask = batch["encoder_attention_mask" if name.startswith("encoder") else "attention_mask"][row].bool()
    return batch[name][row][mask].tolist()


def test_targets_keep_their_text_and_get_another_rows_prompt(bridge):
    model, processor = bridge
    batch = batch_of(processor, PAIRS)
    swapped = with_other_prompts(batch)
    for row in range(len(PAIRS)):
        own, theirs = real(batch, "encoder_input_ids", row), real(swapped, "encoder_input_ids", row)
        assert theirs != own
        assert len(theirs) == len(own), "the number of soft prompts would tell the two apart"
        assert theirs[-1] == own[-1], "the end mark was lost"
    for name in ("input_ids", "attention_mask", "encoder_attention_mask", "labels"):
        assert torch.equal(swapped[name], batch[name])
    with torch.no_grad():  # the model itself counts placeholders against soft prompts
        assert torch.isfinite(model(**swapped).loss)


def test_no_row_keeps_its_own_prompt_whatever_the_lengths(base_folders):
    _, processor = build_bridge(*base_folders)
    for pairs in ([("ab", "a"), ("ba", "b")], [("a" * n, "x") for n in (1, 1, 1, 2, 5)]):
        # The first character tells whose prompt it is.
        pairs = [(f"{index}{prompt}", target) for index, (prompt, target) in enumerate(pairs)]
        batch = batch_of(processor, pairs)
        swapped = with_other_prompts(batch)
        first = [real(batch, "encoder_input_ids", row)[0] for row in range(len(pairs))]
        theirs = [real(swapped, "encoder_input_ids", row)[0] for row in range(len(pairs))]
        assert sorted(theirs) == sorted(first), "every prompt is used once"
        assert all(a != b for a, b in zip(first, theirs, strict=True))


def test_the_score_is_a_mean_over_target_tokens_with_the_error_of_a_ratio(base_folders):
    model, processor = build_bridge(*base_folders)
    batch = batch_of(processor, PAIRS)
    swapped = with_other_prompts(batch)
    found = reading_score(model, [batch])
    differences, tokens = [], []
    with torch.no_grad():
        total = [float(model(**rows, num_items_in_batch=1).loss) for rows in (batch, swapped)]
        for row in range(len(PAIRS)):
            one = [{name: tensor[row : row + 1] for name, tensor in rows.items()} for rows in (batch, swapped)]
            own, other = (float(model(**rows, num_items_in_batch=1).loss) for rows in one)
            differences.append(other - own)
            tokens.append(int((batch["labels"][row, 1:] != -100).sum()))
    n = sum(tokens)
    # Sums of some 20 losses in single precision, in another order.
    assert found.own == pytest.approx(total[0] / n, rel=1e-4)
    assert found.other == pytest.approx(total[1] / n, rel=1e-4)
    assert found.score == pytest.approx(sum(differences) / n, rel=1e-3, abs=1e-4)
    residues = [(d - found.score * t) ** 2 for d, t in zip(differences, tokens, strict=True)]
    assert found.error == pytest.approx(math.sqrt(sum(residues) * 5 / 4) / n, rel=1e-3)
    assert found.rows == 5
    assert not model.training


ARGUMENTS = SimpleNamespace(output_dir="run")


class Run:
    """A run of which only the reading score is real."""

    def __init__(self, values, **settings):
        self.values = iter(values)
        self.state, self.control = TrainerState(is_world_process_zero=True), TrainerControl()
        self.monitor = ReadingMonitor(
            lambda: ReadingScore(score=next(self.values), error=0.01, own=1.0, other=1.0, rows=8),
            lambda logs: self.state.log_history.append({**logs, "step": self.state.global_step}),
            Train(reading_score_steps=2, plateau_patience=3, **settings),
            "causes.",
            lambda: self.begun.append(self.state.global_step),
        )
        self.begun = []
        self.monitor.on_train_begin(ARGUMENTS, self.state, self.control)

    def step(self, count=2):
        for _ in range(count):
            self.state.global_step += 1
            self.monitor.on_step_end(ARGUMENTS, self.state, self.control)


def test_a_plateau_is_warned_of_once_with_its_causes():
    run = Run([0.0, 0.01, 0.02, 0.0, 0.01, 0.01])
    run.step(4)
    with pytest.warns(PlateauWarning, match=r"step 6: .* score 0\.000 ± 0\.010 .* at least 0\.05.*causes\."):
        run.step()
    run.step(4)
    run.monitor.on_train_end(None, run.state, run.control)
    assert not run.control.should_training_stop
    assert [entry["step"] for entry in run.state.log_history] == [0, 2, 4, 6, 8, 10]


def test_a_run_that_reads_is_not_warned_of():
    run = Run([0.0, 0.01, 0.02, 0.3, 0.01, 0.01, 0.4])
    run.step(12)
    run.monitor.on_train_end(None, run.state, run.control)


def test_a_score_within_its_error_is_no_reading():
    run = Run([0.0, 0.1, 0.1, 0.1])
    run.monitor.measure = lambda: ReadingScore(score=0.1, error=0.06, own=1.0, other=1.1, rows=8)
    with pytest.warns(PlateauWarning, match="step 6"):
        run.step(6)


def test_a_run_that_ends_before_patience_does_is_warned_of_at_its_end():
    run = Run([0.0, 0.01])
    run.step(2)
    with pytest.warns(PlateauWarning, match=r"step 2: .*0\.010"):
        run.monitor.on_train_end(None, run.state, run.control)


def test_a_run_stops_on_the_plateau_by_choice_and_keeps_its_state():
    run = Run([0.0, 0.01, 0.02, 0.0], stop_on_plateau=True)
    with pytest.warns(PlateauWarning):
        run.step(6)
    assert run.control.should_training_stop
    assert run.control.should_save
    assert "does not read" in run.monitor.stopped


def test_a_run_that_goes_on_counts_on():
    run = Run([0.0, 0.0])
    run.state.log_history.clear()
    run.state.global_step = 5
    run.state.log_history += [{"reading_score": 0.01, "reading_score_error": 0.01, "step": step} for step in (0, 2, 4)]
    with pytest.warns(PlateauWarning, match="step 6"):
        run.step(1)


def test_a_run_ends_some_scores_behind_its_best_and_has_that_saved():
    run = Run([0.2, 0.3, 0.5, 0.4, 0.45], reading_score_patience=2)
    saved = []
    for _ in range(4):
        run.control.should_save = False
        run.step()
        saved.append(run.control.should_save)
    assert saved == [True, True, False, False]
    assert run.state.best_model_checkpoint == "run/checkpoint-4"
    assert (run.state.best_metric, run.state.best_global_step) == (0.5, 4)
    assert run.control.should_training_stop


def test_the_start_is_kept_where_training_only_costs_reading():
    run = Run([0.9, 0.5, 0.6, 0.9], reading_score_patience=3)
    assert run.begun == [0]
    run.step(4)
    assert not run.control.should_training_stop
    run.step()
    assert run.control.should_training_stop
    assert not run.control.should_save
    assert (run.state.best_metric, run.state.best_global_step) == (0.9, 0)
    assert Run([0.9]).begun == [], "only where it was asked for"


def test_the_line_of_the_loss_is_not_lost():
    """Logging a score resets the trainer's own wish to log, which is not the score's to take."""
    run = Run([0.0, 0.3])
    run.monitor.log = lambda logs: setattr(run.control, "should_log", False)
    run.control.should_log = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.monitor.on_step_end(None, run.state, run.control)
    assert run.control.should_log
