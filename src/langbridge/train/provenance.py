"""Where a checkpoint comes from: the code's revision, versions, and the data's shape."""

import hashlib
import platform
import subprocess
from array import array
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import langbridge


def code_revision() -> str:
    """The git commit of the checkout that this package runs from, `+changes` where files differ from it, or else the
    package's version."""
    folder = Path(langbridge.__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed package may lie inside some other project's checkout, which does not track it.
    if commit is None or not _git(folder, "ls-files", "__init__.py"):
        return langbridge.__version__
    return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    found = {"langbridge": langbridge.__version__, "revision": code_revision(), "python": platform.python_version()}
    for name in ("torch", "transformers", "accelerate", "datasets", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def data_fingerprint(lengths: Sequence[int] | None) -> dict[str, Any]:
    """Number of rows and a hash of their lengths: enough to notice that a run would go on with other data."""
    if lengths is None:
        return {"rows": None}
    return {"rows": len(lengths), "lengths": hashlib.sha256(array("q", lengths).tobytes()).hexdigest()[:16]}
