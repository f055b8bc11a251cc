"""How language-agnostic a bridge's representations are: numbers over all stages, pictures, and a page about both.

Into a folder go `numbers.json`, `report.md`, `curves`, `pca` and `pca_input` (PNG and SVG each).
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langbridge.analyze import alignment
from langbridge.analyze.alignment import Array, Estimate
from langbridge.analyze.corpus import Corpus
from langbridge.analyze.figures import TITLES, draw_curves, draw_projections
from langbridge.analyze.probe import language_probe, scikit_learn
from langbridge.analyze.projection import ALL, EACH, project
from langbridge.analyze.states import BRIDGE, LM, STAGE_FILE, PooledStates, Stage, pool_states
from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.languages import group_of
from langbridge.markdown import table

if TYPE_CHECKING:
    from langbridge.model import LangBridgeModel, LangBridgeProcessor

FORMAT = 1
STATES = "states"
"""Folder of the pooled states, where they are kept."""
AXES = "axes.json"
"""Beside the kept states: ids of `sentences` and codes of `languages`, in the order of the arrays' first two axes."""


def analyze_representations(
    model: "LangBridgeModel",
    processor: "LangBridgeProcessor",
    corpus: Corpus,
    out: str | Path,
    *,
    pivot: str | None = None,
    pca_fit: str = EACH,
    layer: int | None = None,
    batch_size: int = 8,
    keep_states: bool = False,
    source: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Write the whole analysis into `out` and return what `numbers.json` holds.

    pivot: the language that the others are compared with; default English, or the first where there is none.
    pca_fit: whose states the axes of the picture are fitted on: `each` model's own, `lm` (as the reference does),
    `bridge`, or `all`.
    layer: of the language model, for the picture; default the last.
    keep_states: leave the mean of every sentence at every stage in `out`/states, as .npy files, and what their rows are
    in `axes.json`. States that were kept there before are replaced; a folder with anything else in it is refused.
    source: more entries for `numbers.json` about its origin.
    progress: called with the number of texts done; each of the corpus' texts is read twice.

    Memory is bounded by one batch of hidden states and the sentences' means at two stages, in float64; on disk the
    means take sentences x languages x width x 4 bytes a stage while this runs. Raises `LangBridgeError`.
    """
    pivot = _pivot(corpus, pivot)
    if pca_fit not in (EACH, ALL, LM, BRIDGE):
        raise LangBridgeError(f"--pca-fit: got {pca_fit!r}, expected each, lm, bridge or all")
    last = model.language_model.config.get_text_config().num_hidden_layers
    layer = last if layer is None else layer
    if not 1 <= layer <= last:
        raise LangBridgeError(f"--layer: got {layer}, expected 1 to {last}, the language model's last")
    # Checked now, not after all states were computed.
    scikit_learn("linear_model")
    groups = _groups(corpus, pivot)
    out = Path(out).expanduser()
    if keep_states:
        _check_kept(out / STATES)
    try:
        out.mkdir(parents=True, exist_ok=True)
        workplace = tempfile.TemporaryDirectory(dir=out, prefix=".states.")
    except OSError as error:
        raise LangBridgeError(f"--out: cannot write into {out}: {error.strerror}") from error
    with workplace as folder:
        pooled = pool_states(model, processor, corpus, folder, batch_size=batch_size, progress=progress)
        numbers = measure(pooled, corpus, pivot, groups)
        if source:
            numbers = {"format": FORMAT, "source": dict(source), **numbers}
        shown = {name: pooled.load(Stage(name, layer)) for name in (LM, BRIDGE)}
        panels = [(f"{TITLES[name]}, layer {layer}", one) for name, one in project(shown, pca_fit).items()]
        del shown
        inputs = [
            (stage.name, project({"here": pooled.load(stage)})["here"])
            for stage in (Stage(BRIDGE, -1), Stage(BRIDGE, 0))
        ]
        numbers["pca"] = {
            "fit": pca_fit,
            "layer": layer,
            "explained": {title: list(one.explained) for title, one in [*panels, *inputs]},
        }
        draw_projections(panels, corpus.languages, out / "pca", shared=pca_fit != EACH)
        draw_projections(inputs, corpus.languages, out / "pca_input", shared=False)
        draw_curves(numbers, out / "curves")
        write_atomically(out / "report.md", report(numbers))
        write_atomically(out / "numbers.json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
        if keep_states:
            _keep(pooled, corpus, out / STATES)
    return numbers


def _check_kept(states: Path) -> None:
    if states.exists() and not states.is_dir():
        raise LangBridgeError(f"--keep-states: {states} is a file, expected a folder of kept states, or none")
    names = sorted(path.name for path in states.glob("*"))
    others = [name for name in names if name != AXES and not STAGE_FILE.fullmatch(name)]
    if others:
        raise LangBridgeError(
            f"--keep-states: {states} holds {others[0]!r}, expected nothing but states that were kept there before; "
            "move it away, or choose another --out"
        )


def _keep(pooled: PooledStates, corpus: Corpus, states: Path) -> None:
    """Move the arrays to `states`, in place of an earlier analysis' own. A folder with the axes file is complete."""
    shutil.rmtree(states, ignore_errors=True)  # nothing else is in it: `_check_kept`
    states.mkdir()
    for stage in pooled.stages:
        (pooled.folder / stage.file).replace(states / stage.file)
    axes = {"sentences": corpus.ids, "languages": corpus.languages}
    write_atomically(states / AXES, json.dumps(axes, indent=1, ensure_ascii=False) + "\n")


def _pivot(corpus: Corpus, pivot: str | None) -> str:
    if pivot is None:
        english = [code for code in corpus.languages if code.lower().replace("_", "-").split("-")[0] in ("en", "eng")]
        return (english or [corpus.languages[0]])[0]
    if pivot not in corpus.languages:
        raise LangBridgeError(f"--pivot: got {pivot!r}, expected one of {', '.join(corpus.languages)}")
    return pivot


def _groups(corpus: Corpus, pivot: str) -> dict[str, list[str]]:
    """The languages beside the pivot: high- and low-resource ones, where there are any, and all."""
    others = [code for code in corpus.languages if code != pivot]
    groups = {group: [code for code in others if group_of(code) == group] for group in ("high", "low")}
    return {group: codes for group, codes in {**groups, "all": others}.items() if codes}


def measure(pooled: PooledStates, corpus: Corpus, pivot: str, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Every number of every stage, as it goes into `numbers.json`: estimates are {"value": ..., "stderr": ...}."""
    stages = []
    for stage in pooled.stages:
        states = alignment.standardised(pooled.load(stage))
        stages.append(
            {
                "model": stage.model,
                "stage": stage.name,
                "layer": stage.layer,
                "width": states.shape[-1],
                **measure_stage(states, corpus.languages, pivot, groups),
            }
        )
    return {
        "format": FORMAT,
        "sentences": len(corpus),
        "incomplete_sentences_left_out": corpus.incomplete,
        "languages": list(corpus.languages),
        "pivot": pivot,
        "groups": {group: list(codes) for group, codes in groups.items()},
        "tokens_a_sentence": pooled.tokens,
        "sentences_cut": pooled.cut,
        "stages": stages,
    }


def measure_stage(
    states: Array, languages: Sequence[str], pivot: str, groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """All numbers of standardised states (sentences, languages, width)."""
    index = {code: i for i, code in enumerate(languages)}
    at_pivot = states[:, index[pivot]]
    others = [code for code in languages if code != pivot]
    hits = {code: alignment.retrieval_hits(states[:, index[code]], at_pivot) for code in others}
    similar = {code: alignment.cka(states[:, index[code]], at_pivot) for code in others}
    probe = language_probe(states)

    def cka(codes: Sequence[str]) -> Estimate:
        values, without_one = zip(*(similar[code] for code in codes), strict=True)
        return alignment.estimate(float(np.mean(values)), np.mean(without_one, axis=0))

    def cosine(codes: Sequence[str]) -> alignment.Cosine:
        return alignment.cosine(states[:, [index[code] for code in codes]], at_pivot)

    sets = {**groups, **{code: [code] for code in others}}
    return {
        "variance": asdict(alignment.variance(states)),
        "probe": {
            "accuracy": asdict(probe.accuracy),
            "chance": probe.chance,
            "by_language": {code: asdict(one) for code, one in zip(languages, probe.by_language, strict=True)},
        },
        "retrieval": {key: asdict(alignment.retrieval([hits[code] for code in codes])) for key, codes in sets.items()},
        "cosine": {key: asdict(cosine(codes)) for key, codes in sets.items()},
        "cka": {key: asdict(cka(codes)) for key, codes in sets.items()},
    }


def report(numbers: Mapping[str, Any]) -> str:
    """The numbers as a page of Markdown, with the pictures beside it."""
    pivot, languages, stages = numbers["pivot"], numbers["languages"], numbers["stages"]
    groups = [group for group in ("high", "low") if group in numbers["groups"]]
    lines = [
        "# Representations",
        "",
        f"{numbers['sentences']} sentences, each in {len(languages)} languages: the mean over the sentence's own "
        "tokens, at every stage of the bridge and of its language model alone. Numbers are ± one standard error over "
        "sentences, the languages taken as given, on standardised states: for variance, cosine and CKA a delete-one "
        "jackknife, for retrieval and probe that of the mean of the sentences' hits.",
        "",
        *_origin(numbers),
        "## Over the stages",
        "",
        "![Curves](curves.png)",
        "",
        "Bands: two standard errors. Variance: shares of one state's variance that its language and its sentence "
        "account for; the rest is particular to the sentence in that language. Probe: cross-validated accuracy of a "
        f"linear probe for the language (chance is {stages[0]['probe']['chance']:.3f}, and ideal). Retrieval: the "
        f"share of sentences whose nearest neighbour is their translation, to {pivot} and back (chance is "
        f"{1 / numbers['sentences']:.3f}). Cosine: of a sentence with its translation, and of random pairs. "
        "CKA: linear, debiased, 0 for unrelated states. A variance share of 0 was estimated at 0 or "
        "below, and its error is that of the estimate.",
        "",
        table(
            ["stage", "variance: language", "sentence", "rest", "probe"],
            [
                [_title(stage), *(_cell(stage["variance"][key]) for key in ("language", "sentence", "rest")),
                 _cell(stage["probe"]["accuracy"])]
                for stage in stages
            ],
        ),
        "",
        table(
            ["stage", *(f"{what}, {group}" for what in (f"to {pivot}", f"from {pivot}", "cosine gap", "CKA")
                        for group in groups)],
            [
                [_title(stage),
                 *(_cell(stage["retrieval"][group][way]) for way in ("to_pivot", "from_pivot") for group in groups),
                 *(_cell(stage["cosine"][group]["gap"]) for group in groups),
                 *(_cell(stage["cka"][group]) for group in groups)]
                for stage in stages
            ],
        ),
        "",
        "The cosine gap is that of parallel pairs less that of random pairs. "
        + "; ".join(f"{group}-resource: {', '.join(numbers['groups'][group])}" for group in groups) + ".",
        "",
        "## In two dimensions",
        "",
        "![PCA of the language model's states](pca.png)",
        "",
        f"Standardised, two principal components, {_fitted(numbers['pca']['fit'])}. Filled circles: high-resource "
        "languages; open triangles: low-resource. A code stands at its language's mean. The axes say how "
        "much of the variance the picture shows.",
        "",
        "![PCA of the encoder's states and the soft prompts](pca_input.png)",
        "",
        "The encoder's states and the soft prompts, each on its own axes.",
        "",
        f"## Language by language, against {pivot}",
        "",
        _by_language(numbers),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _origin(numbers: Mapping[str, Any]) -> list[str]:
    lines = [f"- {key}: `{value}`" for key, value in numbers.get("source", {}).items()]
    if left_out := numbers["incomplete_sentences_left_out"]:
        lines.append(f"- {left_out} sentences were left out because a language lacks them")
    for model, cut in numbers["sentences_cut"].items():
        if cut:
            counts = ", ".join(f"{code} {count}" for code, count in cut.items())
            lines.append(f"- too long for the {TITLES[model]}, and cut: {counts}")
    return [*lines, ""] if lines else []


def _fitted(fit: str) -> str:
    if fit == EACH:
        return "each model on its own axes"
    if fit == ALL:
        return "fitted on both models' states together"
    other = TITLES[BRIDGE if fit == LM else LM]
    return f"fitted on the {TITLES[fit]} and applied to the {other}"


def _by_language(numbers: Mapping[str, Any]) -> str:
    layer = numbers["pca"]["layer"]
    chosen = [
        stage
        for stage in numbers["stages"]
        if (stage["model"] == BRIDGE and stage["layer"] in (-1, 0)) or stage["layer"] == layer
    ]
    rows = []
    for code in numbers["groups"]["all"]:
        row = [code, group_of(code)]
        row += [f"{numbers['tokens_a_sentence'][model][code]:.0f}" for model in (BRIDGE, LM)]
        for stage in chosen:
            row += [_cell(stage["retrieval"][code]["to_pivot"]), _cell(stage["cka"][code])]
        rows.append(row)
    headings = ["language", "group", "encoder tokens", "LM tokens"]
    headings += [f"{what}, {_title(stage)}" for stage in chosen for what in ("retrieval", "CKA")]
    return table(headings, rows, texts=(1,))


def _title(stage: Mapping[str, Any]) -> str:
    return f"{'bridge' if stage['model'] == BRIDGE else 'LM'}: {stage['stage']}"


def _cell(found: Mapping[str, float]) -> str:
    return str(Estimate(found["value"], found["stderr"]))
