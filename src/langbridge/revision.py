"""Which code made something: this package's version and revision, and the versions of the libraries."""

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import langbridge


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Of langbridge, of Python, and of those of the packages that are installed. `revision` is None outside a
    checkout."""
    found = {"langbridge": langbridge.__version__, "revision": code_revision(), "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_revision() -> str | None:
    """The git commit of the checkout that this package runs from, with `+changes` where files differ from it; None
    where it is installed."""
    folder = Path(langbridge.__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed package may lie inside some other project's checkout, which does not track it.
    if commit is None or not _git(folder, "ls-files", "__init__.py"):
        return None
    return commit + ("+changes" if _git(folder, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
