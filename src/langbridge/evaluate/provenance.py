"""Which code an evaluation was made with."""

import importlib.metadata
import subprocess
from pathlib import Path

import langbridge

_PACKAGES = ("lm-eval", "torch", "transformers", "tokenizers", "datasets")


def code_versions() -> dict[str, str | None]:
    """Our version, the revision where this is a checkout (with "+" where files differ from it), and the libraries'."""
    versions: dict[str, str | None] = {"langbridge": langbridge.__version__, "revision": _revision()}
    for name in _PACKAGES:
        versions[name] = importlib.metadata.version(name)
    return versions


def _revision() -> str | None:
    package = Path(langbridge.__file__).parent
    revision = _git(package, "rev-parse", "HEAD")
    if revision is None or _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # installed, perhaps below somebody else's checkout
    return revision + ("+" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
