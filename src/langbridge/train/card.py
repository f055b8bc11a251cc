"""The model card of a finished run, and its curves as a picture: what a stranger needs who finds the folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langbridge.languages import two_letter
from langbridge.markdown import table
from langbridge.model.sequence import chats
from langbridge.train.recipe import Recipe

CURVES = "curves.png"
READING = "reading_score"
History = Sequence[Mapping[str, Any]]

_USAGE = """
```python
from langbridge import LangBridgeModel, LangBridgeProcessor

model = LangBridgeModel.from_pretrained("THIS_FOLDER")
processor = LangBridgeProcessor.from_pretrained("THIS_FOLDER")
inputs = processor(["your prompt"], return_tensors="pt")
print(*processor.batch_decode(model.generate(**inputs, max_new_tokens=256)))
```
"""

_TALK = """
It speaks through the language model's chat template, and so answers in conversations as well:

```python
messages = [{"role": "user", "content": "your prompt"}]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True
)
```
"""


def short_name(place: str) -> str:
    """A base's name: an id on the hub as it is, a folder by its last part."""
    path = Path(place)
    return path.name if path.is_absolute() or path.exists() or place.startswith(".") else place


def _curves(history: History) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every curve of a log: loss, validation losses, reading score."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if name in ("loss", READING) or (name.startswith("eval_") and name.endswith("loss")):
                curves.setdefault(name, []).append((entry["step"], value))
    return curves


def draw_curves(history: History, path: Path) -> bool:
    """Draw loss and reading score over steps into a PNG; False where the log has neither."""
    losses = _curves(history)
    reading = losses.pop(READING, None)
    panels = [(losses, "nats a target token")] if losses else []
    if reading is not None:
        panels.append(({READING: reading}, "reading score, nats a target token"))
    if not panels:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (lines, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), label=_spoken(name), marker="." if len(points) < 40 else "")
        axes.set_xlabel("update")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend()
    figure.savefig(path, dpi=120)
    return True


def _spoken(name: str) -> str:
    if name == "loss":
        return "training"
    return name.replace("eval_", "validation ").removesuffix("_loss").removesuffix("loss").replace("_", " ").strip()


def model_card(
    recipe: Recipe,
    parts: Sequence[Any],
    updates: int,
    kept: int,
    history: History,
    run: Mapping[str, Any],
    data: Sequence[str],
    curves: bool,
) -> str:
    """The card as Markdown with the hub's metadata on top. `parts`: the model's (`train.parts`). `updates`: of the run,
    and `kept`: of what it leaves, which may be its best. `data`: one line for each source of rows."""
    plain = recipe.encoder is None
    bases = {"encoder": recipe.encoder, "language model": recipe.language_model}
    named = {role: short_name(base) for role, base in bases.items() if base is not None}
    ids = [name for role, name in named.items() if name == bases[role] and name.count("/") == 1]
    lm, fitted = named["language model"], "trained" if kept or run["start"] is None else "fitted"
    lines = [
        "---",
        f"library_name: {'transformers' if plain else 'langbridge'}",
        "pipeline_tag: text-generation",
        f"language: {'en' if plain else 'multilingual'}",
        "tags:",
        "- langbridge",
        *(["base_model:", *(f"- {name}" for name in ids)] if ids else []),
        "---",
        "",
    ]
    if plain:
        lines += [f"# {lm}, fine-tuned", "", "A plain language model, fine-tuned as a baseline."]
        languages = "It reads and writes what the language model does."
    else:
        lines += [
            f"# {lm} bridged to {named['encoder']}",
            "",
            "A bridge after LangBridge (Yoon et al., ACL 2024, [arXiv 2401.10695](https://arxiv.org/abs/2401.10695)): "
            f"a multilingual encoder reads the prompt, a {fitted} connector turns its "
            "states into soft prompts, and a language model answers.",
            _USAGE + (_TALK if chats(recipe.template) else ""),
            _needed({part.name: named[part.name] for part in parts if part.outside}),
        ]
        languages = (
            f"It reads the languages that {named['encoder']} reads, as far as its states are language-agnostic; "
            f"it answers in the language that {lm} answers in. No score by language is claimed "
            "here: measure it on yours."
        )
    described = [(part.name, part.described(recipe, run["start"], kept)) for part in parts]
    rows = [[name, *about] for name, about in described if about is not None]
    began = "Trained on the rows below alone." if updates else "Fitted to prompts of the rows below alone."
    if recipe.begins_with is not None:
        began = "Trained on the rows below, and before on those of the bridge that it began with."
    elif _was_tuned(recipe.language_model):
        began = "Trained on the rows below; its language model had been fine-tuned on others before."
    if updates and not kept:
        began = "Kept as the run began, since training on the rows below cost reading."
    lines += ["", "## Languages", "", f"{began} {_supervised(prompt_languages(recipe))} {languages}"]
    lines += ["", "## Parts", "", table(["part", "from", "in this run"], rows, texts=(1, 2))]
    lines += ["", "## Data", "", *[f"- {line}" for line in data]]
    lines += ["", "## Training", "", *_training(recipe, updates, kept, history, run)]
    if curves:
        lines += ["", f"![Loss and reading score]({CURVES})"]
    return "\n".join(lines) + "\n"


def prompt_languages(recipe: Recipe) -> set[str | None]:
    """The languages that a recipe states of its prompts, in all stages and in the runs before, those of the bridge that
    it begins with and of its language model; with None among them where it, or one of these, leaves some unsaid."""
    found = {source.language for one in recipe.stage_recipes for source in one.data.training_sources}
    before = recipe.begins_with
    if before is not None:
        file = Path(before) / "recipe.yaml"
        found |= prompt_languages(Recipe.load(file)) if file.is_file() else {None}
    if _was_tuned(recipe.language_model):
        found |= prompt_languages(Recipe.load(Path(recipe.language_model) / "recipe.yaml"))
    return found


def _was_tuned(language_model: str) -> bool:
    """Whether a language model is what a run of ours has left; others write a recipe.yaml too."""
    return all((Path(language_model) / name).is_file() for name in ("recipe.yaml", "training_log.json"))


def _supervised(languages: set[str | None]) -> str:
    """What stated languages say of the transfer to others."""
    stated = sorted({two_letter(one) for one in languages if one is not None})
    if None in languages:
        also = f", beside those in {', '.join(stated)}" if stated else ""
        return f"The recipe leaves unsaid in which languages some of the prompts are (`data.language`){also}."
    if stated == ["en"]:
        return "The prompts are in English alone, as the recipe states: it had no multilingual supervision."
    return f"The prompts are in {', '.join(stated)}, as the recipe states: in these it had supervision."


def _needed(bases: Mapping[str, str]) -> str:
    """What the folder needs beside itself: `bases` by their role."""
    if not bases:
        return "Everything it needs is in this folder."
    which = " and ".join(f"the {role} `{name}`" for role, name in bases.items())
    given = " and ".join(f"`{role.replace(' ', '_')}=`" for role in bases)
    return (
        f"Not in this folder: {which}. Each is loaded from where it was in training, or from the folder or hub id "
        f"given as {given}, and must be the same model; `langbridge export` writes a folder with everything inside."
    )


def _disturbed(recipe: Recipe) -> str:
    """What training does to its rows, and use does not."""
    share, text = recipe.state_noise, recipe.text_noise
    found = [f"noise of {share:g} of their deviation on the encoder's states"] if share else []
    for what, rows in (("left out", text.drop), ("scrambled", text.scramble)):
        found += [f"the language model's own copy of the prompt {what} in {rows:.0%} of the rows"] if rows else []
    return "".join(f"; {one}" for one in found)


def _training(recipe: Recipe, updates: int, kept: int, history: History, run: Mapping[str, Any]) -> list[str]:
    train, start = recipe.train, run["start"]
    batch = train.per_device_train_batch_size * train.gradient_accumulation_steps * run["processes"]
    text = (
        f"{updates} updates of {batch} rows, objective `{recipe.objective}`, learning rate {run['learning_rate']:.2g} "
        f"({train.lr_scheduler_type}), seed {recipe.seed}{_disturbed(recipe)}."
        if updates
        else "No update was made: the connector is the closed-form start alone, a ridge regression of the language "
        "model's input embeddings on the encoder's states."
    )
    if kept < updates:
        text += f" What is kept is {f'the bridge after {kept} of them' if kept else 'the start'}, the best."
    if start:
        text += (
            f" The start was fitted to {start['tokens']:,} encoder tokens of {start['texts']} prompts, and explains "
            f"{start['explained']:.3f} of the embeddings' variance there, {start['explained_held_out']:.3f} for types "
            "of token that it had not seen."
        )
    text += (
        " Every setting is in `recipe.yaml`, the whole log in `training_log.json`; code "
        f"{run['revision']}, torch {run['torch']}, transformers {run['transformers']}."
    )
    lines, last = [text], {name: points[-1] for name, points in _curves(history).items()}
    if last:
        rows = [
            ["reading score" if name == READING else f"{_spoken(name)} loss", str(step), f"{value:.4f}"]
            for name, (step, value) in last.items()
        ]
        lines += ["", table(["the last of each", "after update", "nats a target token"], rows)]
    if READING in last:
        lines += ["", "The reading score is what the loss on held-out rows grows by with another row's soft prompts."]
    return lines
