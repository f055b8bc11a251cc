"""How a run was made: model, revisions, data, hashes, prompts, decoding, code."""

import json
from collections.abc import Mapping
from typing import Any

from langbridge.evaluate.runs import Run

UNKNOWN = "not recorded"
_SAID = {"name", "kind", "revision", "bases", "template", "model", "fingerprint"}
"""Of a model, what is not said among its settings."""


def state(run: Run) -> list[tuple[str, str]]:
    """(what, value) pairs; what the run's folder lacks reads "not recorded"."""
    results = run.results
    model, code = dict(results.get("model") or {}), dict(results.get("code") or {})
    lines = [
        ("model", _model(model)),
        *((f"{role.replace('_', ' ')}", _base(base)) for role, base in (model.get("bases") or {}).items()),
        ("template", _text(model.get("template"))),
        ("settings", _pairs({key: value for key, value in model.items() if key not in _SAID}) or UNKNOWN),
        ("code", _pairs(code) or UNKNOWN),
        ("questions", "all" if results.get("limit") is None else f"the first {results['limit']} of each task"),
        ("folder", run.folder.name),
    ]
    for task, about in results["tasks"].items():
        lines += [
            (f"{task}: version", str(about.get("version", UNKNOWN))),
            (f"{task}: shots", str(about.get("shots", UNKNOWN))),
            (f"{task}: decoding", _decoding(about)),
            (f"{task}: data", _data(about)),
            (f"{task}: first prompt", _text(about.get("example_prompt"))),
        ]
    return lines


def _model(model: Mapping[str, Any]) -> str:
    fingerprint = model.get("model") or model.get("fingerprint")
    mark = f", fingerprint {fingerprint}" if isinstance(fingerprint, str) else ""
    return f"{model.get('name', UNKNOWN)} ({model.get('kind', 'kind ' + UNKNOWN)}, {_revision(model, 'name')}{mark})"


def _base(base: Mapping[str, Any] | None) -> str:
    base = base or {}
    return f"{base.get('id') or UNKNOWN}, {_revision(base, 'id')}"


def _revision(model: Mapping[str, Any], called: str) -> str:
    """A folder has no revision; it is identified by its fingerprint, or by that of the bridge built on it."""
    if not model.get("revision") and ("bases" in model or str(model.get(called)).startswith(("/", ".", "~"))):
        return "a local folder"
    return f"revision {model.get('revision') or UNKNOWN}"


def _decoding(about: Mapping[str, Any]) -> str:
    generation = about.get("generation")
    if generation is None:
        return "none: the probabilities of given choices are compared"
    repeats = about.get("repeats") or 1
    sampled = generation.get("do_sample")
    how = f"{repeats} samples a question" if sampled else "greedy"
    return f"{how}; {_pairs({key: value for key, value in generation.items() if key != 'do_sample'})}"


def _data(about: Mapping[str, Any]) -> str:
    found = []
    for language, figures in about["languages"].items():
        for part, origin in (figures.get("data") or {}).items():
            place = language if len(figures["data"]) == 1 else f"{language} {part}"
            found.append(f"{place}: {_pairs(origin) or UNKNOWN}")
    return "; ".join(found) or UNKNOWN


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in values.items() if value is not None)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return UNKNOWN if value is None else json.dumps(value, ensure_ascii=False)
