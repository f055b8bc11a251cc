"""Programs that a model wrote, run in a sandbox and tested from outside the program's own process.

A program is run without network, with nothing of the machine's files but the Python interpreter and the system's
libraries, read-only, with an empty scratch folder in memory, within `Limits`. Linux enforces this, through bubblewrap
where it is installed or the same namespaces set up by `namespaces.py`; `inside/` adds resource limits and a filter of
system calls. A mechanism is used only after a program that tries to break out of it has failed.

Not defended against: kernel bugs, and other users of the machine who attack the sandbox from outside.
"""

import contextlib
import hmac
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from langbridge.errors import LangBridgeError
from langbridge.evaluate.code.namespaces import REFUSED

_HERE = Path(__file__).parent
_SCRATCH = "/scratch"
_SCRIPTS = "/scripts"
_PYTHON = "/python"
_START = "import sys; sys.path.insert(0, sys.argv[1]); from inside.checker import main; main()"
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom")
"""The files of the machine that a program sees."""
_OUR_PROCESSES = 4
"""Of the processes that the limit counts: bubblewrap's two, the checker and the candidate itself."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use."""

    seconds: float = 10.0
    """By the clock, the start of two interpreters included."""
    cpu_seconds: int = 5
    """Of each process."""
    memory_bytes: int = 512 * 2**20
    """Address space of each process."""
    processes: int = 8
    """Processes and threads at any time, beside the program itself. Not limited without a sandbox."""
    file_bytes: int = 8 * 2**20
    """Of each file written."""
    scratch_bytes: int = 32 * 2**20
    """Of the scratch folder. Not limited without a sandbox."""
    open_files: int = 64
    reason_characters: int = 400
    """Of the message about a failure."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise LangBridgeError(f"limit {name}: expected more than 0, got {value!r}")


@dataclass(frozen=True)
class Program:
    """A program and how it is judged, in the terms of HumanEval."""

    source: str
    """The whole program; run in one process, which sees no test."""
    checks: str
    """Python that defines `check(candidate)`, which raises where the candidate is wrong, and all that it needs beside
    the function asked for."""
    entry_point: str
    """The name of the function asked for."""


@dataclass(frozen=True)
class Verdict:
    passed: bool
    reason: str
    """`passed`, or what went wrong, in at most `Limits.reason_characters`."""


@dataclass(frozen=True)
class Sandbox:
    """Runs programs one at a time; safe to share between threads."""

    mechanism: str
    """`bubblewrap`, `namespaces`, or `none` where the user asked for no sandbox."""
    limits: Limits = field(default_factory=Limits)

    def run(self, program: Program) -> Verdict:
        """Run a program against its tests. Raises `LangBridgeError` where the sandbox itself does not start."""
        token = secrets.token_hex(32)
        limits = asdict(self.limits) | {"processes": self.limits.processes + _OUR_PROCESSES}
        if self.mechanism == "none":
            del limits["processes"]
        task = {**asdict(program), "token": token, "limits": limits}
        with tempfile.TemporaryDirectory(prefix="langbridge-") as scratch:
            command, environment = _COMMANDS[self.mechanism](self.limits, scratch)
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=scratch,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                output, errors = process.communicate(json.dumps(task).encode(), timeout=self.limits.seconds)
            except subprocess.TimeoutExpired:
                return Verdict(False, f"timed out after {self.limits.seconds:g} s")
            finally:
                # Always the whole group, so that nothing is left running. In a sandbox, killing its first process
                # also ends processes that left the group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return self._verdict(process.returncode, output, errors, token)

    def _verdict(self, code: int, output: bytes, errors: bytes, token: str) -> Verdict:
        try:
            said = json.loads(output)
        except ValueError:
            said = None
        if isinstance(said, dict) and hmac.compare_digest(str(said.get("token")).encode(), token.encode()):
            return Verdict(bool(said["passed"]), str(said["reason"]))
        words = errors.decode(errors="replace").strip().splitlines()[-1:]
        if code == REFUSED or (words and words[0].startswith("bwrap: ")):
            raise LangBridgeError(f"sandbox: {words[0] if words else 'did not start'}")
        # The checker was killed or ran out of memory because of what the program sent.
        reason = " ".join(["ended without a verdict:", *words]) if words else "ended without a verdict"
        return Verdict(False, reason[: self.limits.reason_characters])


def find_sandbox(*, unsafe_code: bool = False, limits: Limits | None = None) -> Sandbox:
    """The first mechanism on this machine that holds against a program that tries to break out.

    With `unsafe_code`, programs run with the user's rights and only resource limits where there is no sandbox.
    Without it, raises `LangBridgeError` with the reason for each mechanism.
    """
    limits = limits or Limits()
    reasons = []
    for mechanism in ("bubblewrap", "namespaces"):
        sandbox = Sandbox(mechanism, limits)
        lack = _lack(sandbox)
        if lack is None:
            return sandbox
        reasons.append(f"{mechanism}: {lack}")
    if unsafe_code:
        return Sandbox("none", limits)
    raise LangBridgeError(
        f"no sandbox holds on this machine ({'; '.join(reasons)}). Programs that a model wrote are run only in a "
        "sandbox: install bubblewrap (`apt install bubblewrap`), or give --unsafe-code to run them with your own rights"
    )


def run_all(sandbox: Sandbox, programs: Iterable[Program]) -> list[Verdict]:
    """Verdicts in the order of the programs, one at a time for each core."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(sandbox.run, programs))


@cache
def _lack(sandbox: Sandbox) -> str | None:
    """Why a mechanism cannot be used on this machine; None where it holds."""
    if sys.platform != "linux":
        return f"needs Linux, this is {sys.platform}"
    if sandbox.mechanism == "bubblewrap" and shutil.which("bwrap") is None:
        return "not installed"
    private = sorted({str(Path.home()), os.getcwd(), str(_HERE)} - {"/"})
    arguments = (private, sandbox.limits.processes, sandbox.limits.memory_bytes)
    test = f"def check(candidate):\n    found = candidate{arguments!r}\n    assert not found, ', '.join(found)\n"
    probe = (_HERE / "inside" / "probe.py").read_text(encoding="utf-8")
    # A busy machine must not fail the probe for its time limit, nor long paths for the length of the message.
    patient = replace(sandbox, limits=replace(sandbox.limits, seconds=60.0, cpu_seconds=20, reason_characters=100_000))
    try:
        verdict = patient.run(Program(probe, test, "intrusions"))
    except LangBridgeError as error:
        return str(error).removeprefix("sandbox: ").removeprefix(f"{sandbox.mechanism}: ")
    return None if verdict.passed else verdict.reason.replace("AssertionError: ", "a program ")


def _interpreter() -> tuple[list[tuple[str, str]], str, dict[str, str]]:
    """What the sandbox must hold for Python to run: (source, target) pairs, the interpreter's path, environment."""
    executable, prefix = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
    environment = {"PATH": "/usr/bin:/bin", "HOME": _SCRATCH, "TMPDIR": _SCRATCH, "LANG": "C.UTF-8"}
    if executable.startswith("/usr/"):
        return [], executable, environment
    # Often below a home folder, whose name must not be visible inside; Python finds its library from any path.
    environment["LD_LIBRARY_PATH"] = f"{_PYTHON}/lib"
    return [(prefix, _PYTHON)], executable.replace(prefix, _PYTHON, 1), environment


def _files() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Of the machine's files: (source, target) pairs, and (text, path) of symbolic links."""
    pairs, links = [], []
    for name in _SYSTEM:
        if os.path.islink(name):
            links.append((os.readlink(name), name))
        elif os.path.exists(name):
            pairs.append((name, name))
    return [*pairs, (str(_HERE / "inside"), f"{_SCRIPTS}/inside")], links


def _in_namespaces(limits: Limits, scratch: str) -> tuple[list[str], dict[str, str]]:
    library, python, environment = _interpreter()
    pairs, links = _files()
    job = {
        "read_only": [*pairs, *library],
        "links": links,
        "scratch": _SCRATCH,
        "scratch_bytes": limits.scratch_bytes,
        "environment": environment,
        "command": [python, "-I", "-S", "-c", _START, _SCRIPTS],
    }
    return [sys.executable, "-I", "-S", str(_HERE / "namespaces.py"), json.dumps(job)], {"LANG": "C.UTF-8"}


def _in_bubblewrap(limits: Limits, scratch: str) -> tuple[list[str], dict[str, str]]:
    library, python, environment = _interpreter()
    pairs, links = _files()
    # Devices by name: `--dev` would bring a shared memory folder of any size.
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    options += ["--uid", "65534", "--gid", "65534"]
    for source, target in [*pairs, *library]:
        options += ["--dev-bind" if source.startswith("/dev/") else "--ro-bind", source, target]
    for text, path in links:
        options += ["--symlink", text, path]
    size = str(limits.scratch_bytes)
    options += ["--size", size, "--tmpfs", _SCRATCH, "--remount-ro", "/", "--chdir", _SCRATCH, "--clearenv"]
    for name, value in environment.items():
        options += ["--setenv", name, value]
    bwrap = shutil.which("bwrap") or "bwrap"
    return [bwrap, *options, "--", python, "-I", "-S", "-c", _START, _SCRIPTS], {"LANG": "C.UTF-8"}


def _unconfined(limits: Limits, scratch: str) -> tuple[list[str], dict[str, str]]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8"}
    return [sys.executable, "-I", "-S", "-c", _START, str(_HERE)], environment


_COMMANDS = {"bubblewrap": _in_bubblewrap, "namespaces": _in_namespaces, "none": _unconfined}
