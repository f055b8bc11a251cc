"""The table of commands, and how each of them ends.

A command's module is imported when the command runs and not before, and each imports torch inside its
function, so `--help` answers at once. What a user got wrong is one message on stderr and exit code 2;
a traceback means that the mistake is ours.
"""

import errno
import importlib
import os
import sys
import typing
import warnings
from pathlib import Path

import typer
from typer.core import TyperGroup

import langbridge
from langbridge.errors import LangBridgeError

COMMANDS = {
    "demo": ("langbridge.cli.demo:demo", "Train the miniature bridge and score it in 12 languages."),
    "train": ("langbridge.cli.train:train", "Train a bridge from a recipe."),
    "generate": ("langbridge.cli.generate:generate", "Answer prompts with a bridge."),
    "chat": ("langbridge.cli.chat:chat", "Talk to a bridge in the terminal."),
    "serve": ("langbridge.cli.serve:serve", "Serve a model over HTTP, as OpenAI's API does."),
    "show": ("langbridge.cli.show:show", "Print a batch of a recipe as the models will see it."),
    "analyze": ("langbridge.cli.analyze:app", "Look at representations, answers and soft prompts."),
    "import": ("langbridge.cli.import_:import_", "Read a checkpoint in the published format."),
    "export": ("langbridge.cli.export:export", "Write a bridge and its bases as one full model."),
    "route": ("langbridge.cli.route:route", "Choose the prompts that go to the language model as text."),
    "average": ("langbridge.cli.average:average", "Average a bridge with the start that it was trained from."),
    "evaluate": ("langbridge.cli.evaluate:evaluate", "Evaluate a model on benchmarks."),
    "lm-eval": ("langbridge.cli.evaluate:lm_eval", "lm-evaluation-harness's own command line, with our model."),
    "report": ("langbridge.cli.report:report", "Make tables and pictures of evaluations."),
    "miniature": ("langbridge.cli.miniature:app", "Build the miniature's models and data."),
}
"""By name: `module:attribute` (a function, or a `typer.Typer` with its own commands) and one line of help."""

# Plain help: rich's panels would cost more time than everything else in `--help`.
_PLAIN: dict[str, typing.Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


class _Commands(TyperGroup):
    """A group that imports a command's module only to run it."""

    def list_commands(self, ctx: typing.Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: typing.Any, name: str) -> typing.Any:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        target = getattr(importlib.import_module(module), attribute)
        if isinstance(target, typer.Typer):
            group = typer.main.get_group(target)
            group.name = name
            return group
        single = typer.Typer(**_PLAIN)
        single.command(name, context_settings=getattr(target, "context_settings", None))(target)
        return typer.main.get_command(single)

    def format_commands(self, ctx: typing.Any, formatter: typing.Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(self, ctx: typing.Any, args: list[str]) -> typing.Any:
        _quiet_transformers()
        warnings.showwarning = _one_line
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typing.Any) -> typing.Any:
        try:
            return super().invoke(ctx)
        except LangBridgeError as error:
            _stop(str(error), 2)
        except BrokenPipeError:
            raise  # the reader of our output is gone: typer ends quietly
        except OSError as error:
            if not _about_a_users_path(error):
                raise
            _stop(str(error), 2)  # the system's own words: a full disk, a folder without permission
        except KeyboardInterrupt:
            _stop("interrupted", 130)


def _about_a_users_path(error: OSError) -> bool:
    """Whether the disk is full, or a path outside the installation cannot be used as asked. A path that is missing is
    not among these: those that users name are checked where they are read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if error.filename is None or isinstance(error, FileNotFoundError):
        return False
    path = Path(os.fsdecode(error.filename)).absolute()
    return not any(path.is_relative_to(folder) for folder in (Path(langbridge.__file__).parent, sys.prefix))


def _stop(message: str, code: int) -> typing.NoReturn:
    typer.echo(f"langbridge: {message}", err=True)
    raise SystemExit(code)


def _one_line(message: Warning | str, *_: typing.Any, **__: typing.Any) -> None:
    """A warning as a person reads it: without the line of code that it was raised on."""
    typer.echo(f"langbridge: warning: {message}", err=True)


def _quiet_transformers() -> None:
    """Keep its chatter and progress bars out of our output; what a user set in the environment stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "transformers" in sys.modules:  # it reads the environment once, when it is first imported
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}, **_PLAIN
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(langbridge.__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: typing.Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Give an English-centric language model the languages of a multilingual encoder."""


def run(arguments: list[str] | None = None) -> typing.NoReturn:
    """The console script: run one command and leave with its exit code."""
    app(args=arguments, prog_name="langbridge")
    sys.exit(0)
