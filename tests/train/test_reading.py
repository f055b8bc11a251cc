"""The reading score in a training: what a run warns of, keeps, and ends at."""

import warnings
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from langbridge.model.reading import ReadingScore
from langbridge.train.hyperparameters import Train
from langbridge.train.reading import PlateauWarning, ReadingMonitor

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


def test_a_score_that_is_no_number_is_no_best_one():
    run = Run([0.2, float("nan"), 0.3], reading_score_patience=3)
    run.step(4)
    assert (run.state.best_metric, run.state.best_global_step) == (0.3, 4)


def test_the_best_is_told_by_scores_and_not_by_what_else_the_trainer_keeps():
    run = Run([0.2, 0.3], reading_score_patience=3)
    run.state.best_metric = 1.3  # a validation loss
    run.step(2)
    assert (run.state.best_metric, run.state.best_global_step) == (0.3, 2)


def test_the_line_of_the_loss_is_not_lost():
    """Logging a score resets the trainer's own wish to log, which is not the score's to take."""
    run = Run([0.0, 0.3])
    run.monitor.log = lambda logs: setattr(run.control, "should_log", False)
    run.control.should_log = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.monitor.on_step_end(None, run.state, run.control)
    assert run.control.should_log
