"""`langbridge evaluate` and `langbridge lm-eval`: benchmarks, on a bridge or on any other model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langbridge.cli.bridge import RouteFile
from langbridge.cli.names import names_in
from langbridge.cli.progress import progress_bar
from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from langbridge.evaluate.runs import Run


def evaluate(
    model: Annotated[str, typer.Argument(metavar="FOLDER", help="A bridge, or any language model: folder or hub id.")],
    suite: Annotated[str, typer.Option("--suite", metavar="NAME,...", help="Suites, or YAML files of your own.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for answers and scores.")],
    data: Annotated[
        str, typer.Option("--data", metavar="DIR", help="Folder with the suites' data; 'hub' fetches them.")
    ] = "hub",
    languages: Annotated[
        str | None, typer.Option("--languages", metavar="CODE,...", help="Only these; default: all of a suite.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Questions of each task; default: all.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Questions at once.")] = 16,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer; default: the suite's.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            help="plain, metamath, orca2, mathoctopus, chat (the language model's), 'chat: TURN' (that with more "
            "in the user's turn; a bridge's has <soft>{prompt}</soft> in it), or a text with {prompt}; default: the "
            "model's own.",
        ),
    ] = None,
    shots_in: Annotated[
        str, typer.Option("--shots-in", help="Of a bridge: worked examples through the 'encoder', or to the 'lm'.")
    ] = "encoder",
    route: RouteFile = None,
    translator: Annotated[
        str | None, typer.Option("--translator", metavar="FOLDER", help="Translate questions into English first.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[
        str | None, typer.Option("--device", help="Such as cuda:1; default: a GPU if there is one.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="Longest prompt in tokens (of a bridge: encoder tokens).")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Of a model on the hub.")] = None,
    unsafe_code: Annotated[
        bool, typer.Option("--unsafe-code", help="Let model-written programs run without a sandbox.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the scores.")] = False,
) -> None:
    """Evaluate a model on benchmarks. The same command again goes on where it stopped."""
    _need_harness()
    names = names_in(suite, "--suite")
    wanted = None if languages is None else names_in(languages, "--languages")
    from langbridge.evaluate.run import check_scorers
    from langbridge.evaluate.run import evaluate as evaluate_suites
    from langbridge.evaluate.suites import load_suites
    from langbridge.serve.load import load_engine

    generation = None if max_new_tokens is None else {"max_gen_toks": max_new_tokens}
    about_data: dict[str, Any] = {}
    if translator is not None:
        data, about_data = _translated(translator, names, wanted, data, out, limit, batch_size, dtype, device, quiet)
    tasks = load_suites(names, data=data, languages=wanted, generation=generation, metadata=about_data)
    check_scorers(tasks, unsafe_code)
    engine = load_engine(
        model,
        template=template,
        shots_in=shots_in,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        max_length=max_length,
        revision=revision,
        route=route,
    )
    about = {} if translator is None else {"translator": translator}

    def bar(total: int, what: str) -> Any:
        return progress_bar(total, what, quiet=quiet)

    run = evaluate_suites(engine, tasks, out, limit=limit, about=about, unsafe_code=unsafe_code, bar=bar)
    if run is not None:
        typer.echo(summary(run))


def summary(run: "Run") -> str:
    """The scores of a run, a line for each language."""
    from langbridge.evaluate.scores import stated_error

    lines = []
    for task, found in run.results["tasks"].items():
        lines.append(f"{task}, per cent" + (f", {found['shots']}-shot" if found["shots"] else ""))
        for language, figures in found["languages"].items():
            score = "not scored"
            if figures["accuracy"] is not None:
                score = f"{100 * figures['accuracy']:5.1f}{stated_error(figures['stderr'])}"
            wrong = [
                f"{figures[key]} {text}"
                for key, text in (
                    ("unscored", "could not be scored"),
                    ("unanswered", "without an answer"),
                    ("prompts_cut", "with the prompt cut"),
                    ("answers_cut_off", "with the answer cut off"),
                    ("read_as_text", "read as text"),
                )
                if figures.get(key)
            ]
            lines.append(f"  {language:>5}  {score}  (n={figures['n']}{''.join(f', {text}' for text in wrong)})")
    return "\n".join(
        [*lines, f"{run.folder}: results.json, {', '.join(f'samples_{task}.jsonl' for task in run.tasks)}"]
    )


def lm_eval(ctx: typer.Context) -> None:
    """Hand over to lm-evaluation-harness's own command line, which then knows the model "langbridge"."""
    _need_harness()
    import torch
    from lm_eval.__main__ import cli_evaluate

    from langbridge.evaluate import harness, suites  # noqa: F401 (the first registers the model)

    unknown = "Tasks not found: "
    arguments = list(ctx.args)
    suites.check_handed_over(arguments)
    runs = arguments and arguments[0] not in ("ls", "validate", "-h", "--help")
    if runs and not any(argument.split("=")[0] == "--include_path" for argument in arguments):
        arguments += ["--include_path", str(suites.FOLDER)]
    if runs and not torch.cuda.is_available() and not any(word.split("=")[0] == "--device" for word in arguments):
        arguments += ["--device", "cpu"]  # the harness takes a GPU for granted
    sys.argv = ["lm-eval", *arguments]
    try:
        cli_evaluate()
    except ValueError as error:
        if not str(error).startswith(unknown):
            raise
        raise LangBridgeError(
            f"--tasks: the harness knows no {str(error).removeprefix(unknown)}; `langbridge lm-eval ls tasks` lists "
            f"what it has, and here also {', '.join(f'lb_{name}' for name in suites.suite_files())}, each whole "
            "(single languages: `langbridge evaluate --languages`)"
        ) from error


# Every word after the command is the harness's, its --help included.
lm_eval.context_settings = {  # type: ignore[attr-defined]
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def _translated(
    translator: str,
    names: list[str],
    languages: list[str] | None,
    data: str,
    out: Path,
    limit: int | None,
    batch_size: int,
    dtype: str,
    device: str | None,
    quiet: bool,
) -> tuple[str, dict[str, Any]]:
    """The data folder with the questions in English, and what their documents are made with."""
    from langbridge.evaluate.suites import check_languages, suite_files, suite_languages
    from langbridge.evaluate.translating import TRANSLATED, Translator, translate_family
    from langbridge.languages import chosen_languages

    files = suite_files()
    for name in names:
        if name not in files or files[name].parent.name not in TRANSLATED:
            raise LangBridgeError(
                f"--translator: {name} has no text to translate; expected suites of {', '.join(TRANSLATED)}"
            )
    check_languages({name: suite_languages(name) for name in names}, languages)
    model = Translator(translator, dtype=dtype, device=device, batch_size=batch_size)
    place = out.expanduser().resolve()  # `.` has no name of its own
    folder = place.with_name(f"{place.name}-english")
    for name in names:
        own = chosen_languages(suite_languages(name), languages)
        with progress_bar(0, f"translate {name}", quiet=quiet) as bar:
            translate_family(model, files[name].parent.name, own, data, folder, limit=limit, progress=bar.update)
    return str(folder), {"frame": "en", "shots_data": data}


def _need_harness() -> None:
    import importlib.util

    if importlib.util.find_spec("lm_eval") is None:
        raise LangBridgeError("evaluation needs lm-evaluation-harness: pip install 'langbridge[evaluate]'")
