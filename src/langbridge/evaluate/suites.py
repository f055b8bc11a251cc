"""Suites by name: which YAML each is, in which languages, and the harness's tasks made of it.

Only this package's task folder is read: indexing all tasks of the harness takes longer than many evaluations.
"""

import argparse
import logging
import warnings
from collections.abc import Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api import task as harness_task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from tqdm import tqdm

from langbridge.errors import LangBridgeError
from langbridge.evaluate.benchmarks import NoSuchFile, origin_of
from langbridge.evaluate.custom_suite import own_suite
from langbridge.languages import chosen_languages

FOLDER = Path(__file__).with_name("tasks")

_OF_GROUPS = {"group", "group_alias", "task", "aggregate_metric_list", "tag"}
"""Keys of a suite's file that are the group's and not its tasks'."""


@dataclass(frozen=True)
class SuiteTask:
    """One of a suite's tasks: a language, or a part of one (a subtask of BIG-Bench Hard)."""

    suite: str
    language: str
    part: str | None
    task: Any
    scorer: str | None = None
    """`module:function` that is called as `score(samples, unsafe_code=...)` after all are generated, where the grader
    cannot say (programs), and returns the samples with `correct` set."""

    @property
    def origin(self) -> dict[str, Any]:
        """The exact data: file and hash, or dataset and version."""
        return origin_of(self.task.eval_docs)


def suite_files() -> dict[str, Path]:
    """Every suite of the package by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*/*.yaml"))}


def suite_languages(name: str) -> list[str]:
    """The languages of a suite, in its order."""
    return _languages(_config(name)[1])


def check_languages(has: Mapping[str, Sequence[str]], languages: Sequence[str] | None) -> None:
    """has: by suite its languages. Raises `LangBridgeError` for a wanted one in none, and for a suite without any."""
    if languages is None:
        return
    strange = [text for text in languages if not any(chosen_languages(own, [text]) for own in has.values())]
    without = {suite: own for suite, own in has.items() if not chosen_languages(own, languages)}
    if strange or without:
        about = "; ".join(f"{suite} has {', '.join(own)}" for suite, own in (has if strange else without).items())
        raise LangBridgeError(f"--languages: {about}; got {', '.join(strange or languages)}")


def check_handed_over(arguments: Sequence[str]) -> None:
    """arguments: of the harness's own command line. Raises `LangBridgeError` where its `--tasks` names a suite that the
    harness cannot score, because its samples are scored after all are generated."""
    later = {
        f"lb_{name}"
        for name in suite_files()
        if any(item["metadata"].get("scorer") for item in _config(name)[1]["task"])
    }
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--tasks", "-t", nargs="*", default=[])
    chosen = parser.parse_known_args(list(arguments))[0].tasks
    if refused := [name for words in chosen for name in words.split(",") if name in later]:
        raise LangBridgeError(
            f"--tasks: {', '.join(refused)}: programs are run after all are written, which the harness's command does "
            f"not do, so it would give no score; use `langbridge evaluate --suite {refused[0].removeprefix('lb_')}`"
        )


def load_suites(
    names: Sequence[str],
    *,
    data: str | Path | None = None,
    languages: Sequence[str] | None = None,
    generation: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> list[SuiteTask]:
    """The tasks of suites, their documents read.

    names: of this package, or paths of YAML files that describe a suite of your own (`custom_suite.py`).
    data: a folder, or `hub`. languages: all of a suite's, or these (by code or English name); a suite that has none of
    them is an error, and so are a language that no suite has and two suites of one name. What a folder lacks of a suite
    is left out with a warning, unless the language was requested.
    generation: settings over the suites' own, such as `max_gen_toks`. metadata: more for the documents' `load`.
    """
    configs: dict[str, dict[str, Any]] = {}
    called: dict[str, str] = {}
    for name in dict.fromkeys(names):
        suite, config = _config(name, languages)
        if suite in called:
            raise LangBridgeError(
                f"--suite: {name} is called {suite!r}, and so is {called[suite]}; give one of them another name"
            )
        called[suite], configs[suite] = name, config
    check_languages({suite: _languages(config) for suite, config in configs.items()}, languages)
    more = {"data": None if data is None else str(data), **(metadata or {})}
    with quiet_harness():
        manager = TaskManager(include_defaults=False, metadata=more)
    tasks: list[SuiteTask] = []
    for suite, config in configs.items():
        chosen = chosen_languages(_languages(config), languages)
        shared = {key: value for key, value in config.items() if key not in _OF_GROUPS}
        found: list[SuiteTask] = []
        absent: list[tuple[str, str, NoSuchFile]] = []
        for item in config["task"]:
            about = item["metadata"]
            if about["language"] not in chosen:
                continue
            own = {**shared, **item}
            if generation and own.get("generation_kwargs") is not None:
                own["generation_kwargs"] = {**own["generation_kwargs"], **generation}
            try:
                with quiet_harness():
                    task = manager.load([own])["tasks"][own["task"]]
            except NoSuchFile as error:
                absent.append((about["language"], about.get("part") or about["language"], error))
                continue
            task.set_fewshot_seed(seed=1234)  # the harness's own; our samplers take the first examples
            found.append(SuiteTask(suite, about["language"], about.get("part"), task, about.get("scorer")))
        _check_absent(suite, {one.language for one in found}, absent, languages or [])
        tasks += found
    return tasks


def _check_absent(
    suite: str, there: Set[str], absent: Sequence[tuple[str, str, NoSuchFile]], wanted: Sequence[str]
) -> None:
    """Raise where the suite, or a requested language, has no data; otherwise warn about what is missing."""
    for language, _, error in absent:
        asked = [text for text in wanted if chosen_languages([language], [text])]
        if not there or any(not chosen_languages(list(there), [text]) for text in asked):
            raise error
    if absent:
        names = list(dict.fromkeys(name for _, name, _ in absent))
        few = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        warnings.warn(f"--data: of {suite} there is no {few}; the rest is evaluated", stacklevel=3)


def _languages(config: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(str(item["metadata"]["language"]) for item in config["task"]))


def _config(name: str, languages: Sequence[str] | None = None) -> tuple[str, dict[str, Any]]:
    """A suite's short name and its group of tasks. languages: the wanted ones, so that no other file is judged."""
    known = suite_files()
    if name in known:
        return name, load_yaml(known[name])
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return own_suite(path, everything=languages is None)
    raise LangBridgeError(
        f"--suite: got {name!r}, expected one of {', '.join(known)}, or the path of a YAML file of your own"
    )


@contextmanager
def quiet_harness() -> Any:
    """The harness without its own progress bars and log lines."""
    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, harness_task.tqdm
    logger.setLevel(logging.ERROR)
    harness_task.tqdm = partial(tqdm, disable=True)
    try:
        yield
    finally:
        logger.setLevel(level)
        harness_task.tqdm = bar
