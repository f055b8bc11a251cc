"""A run's right and wrong answers in one language, to be read by a person."""

from langbridge.errors import LangBridgeError
from langbridge.evaluate.runs import Run, Sample
from langbridge.languages import chosen_languages

_KINDS = ((1, "right"), (0, "wrong"), (None, "could not be scored"))


def show_samples(run: Run, language: str, *, task: str | None = None, number: int = 3) -> str:
    """The first `number` right, wrong and unscored answers of each task, or of one, in a language (code or name)."""
    tasks = run.tasks if task is None else [task]
    blocks, without = [], []
    for name in tasks:
        answers = run.samples(name)
        codes = chosen_languages(run.languages(name), [language])
        without += [] if codes else [name]
        for code in codes:
            samples = [sample for sample in answers if sample.language == code]
            for mark, word in _KINDS:
                found = [sample for sample in samples if sample.correct == mark]
                if found or mark is not None:
                    blocks.append(f"{name}, {code}: {word}, {len(found)} of {len(samples)}")
                blocks += [_shown(sample) for sample in found[:number]]
    if not blocks:
        has = {code for name in tasks for code in run.languages(name)}
        raise LangBridgeError(f"--samples: no answers in {language!r}; {run.folder} has {', '.join(sorted(has))}")
    if without:
        blocks.append(f"no answers in {language!r}: {', '.join(without)}")
    return "\n\n".join(blocks)


def _shown(sample: Sample) -> str:
    lines = [("id", sample.id), ("prompt", sample.prompt), ("output", sample.output)]
    if sample.extracted not in (None, sample.output):
        lines.append(("extracted", sample.extracted))
    if sample.extracted is None and sample.correct is not None:
        lines.append(("extracted", "nothing"))
    lines.append(("expected", sample.expected))
    if "reason" in sample.extra:
        lines.append(("reason", str(sample.extra["reason"])))
    return "\n".join(_field(name, text or "") for name, text in lines)


def _field(name: str, text: str) -> str:
    """The name, and the text beside it, or below and set in where it has several lines."""
    text = text.strip("\n")
    return f"  {name}: {text}" if "\n" not in text else f"  {name}:\n    | " + text.replace("\n", "\n    | ")
