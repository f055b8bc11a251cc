"""Hostile programs, all of them bounded by the sandbox's own limits and small by themselves."""

import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate.code import Limits, Program, Sandbox, find_sandbox, run_all
from langbridge.evaluate.code import sandbox as module

SMALL = Limits(seconds=8.0, cpu_seconds=1)
"""Wide by the clock, since the tests share the machine; the processor's time is what ends a loop."""
ADDS_ONE = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(5) == 6\n"


@pytest.fixture(scope="module", params=["bubblewrap", "namespaces"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    found = Sandbox(request.param, SMALL)
    lack = module._lack(found)
    if lack is not None:
        pytest.skip(f"{request.param} does not hold on this machine: {lack}")
    return found


def program(source: str, test: str = ADDS_ONE) -> Program:
    return Program(source, test, "f")


def processes_with(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in text:
            found.append(text)
    return found


def gone(mark: str) -> bool:
    """Whether no process carries the mark; the kernel may take a moment to clear a namespace away."""
    for _ in range(100):
        if not processes_with(mark):
            return True
        time.sleep(0.05)
    return False


def test_right_and_wrong_programs(sandbox: Sandbox) -> None:
    right, wrong, raising, broken = run_all(
        sandbox,
        [
            program("def f(x):\n    print('noise')\n    return x + 1\n"),
            program("def f(x):\n    return 2\n"),
            program("def f(x):\n    return [][x]\n"),
            program("def f(x):\n    return x +\n"),
        ],
    )
    assert (right.passed, right.reason) == (True, "passed")
    assert (wrong.passed, wrong.reason) == (False, "AssertionError")
    assert (raising.passed, raising.reason) == (False, "IndexError: list index out of range")
    assert not broken.passed
    assert broken.reason.startswith("SyntaxError")


def test_the_tests_may_use_the_prompts_helpers_and_any_plain_values(sandbox: Sandbox) -> None:
    prompt = "def double(x):\n    return 2 * x\n\ndef f(values):\n    '''Doubled.'''\n"
    test = (
        "def check(candidate):\n"
        "    assert candidate([1, 2]) == {'all': (double(1), 4), 'set': {2, 4}, 'none': None, 'half': 0.5}\n"
        "    assert candidate([])['none'] is None\n"
    )
    body = "    r = tuple(double(v) for v in values)\n    return {'all': r, 'set': set(r), 'none': None, 'half': 0.5}\n"
    assert sandbox.run(Program(prompt + body, prompt + test, "f")).reason == "passed"


@pytest.mark.parametrize(
    "ending",
    [
        "import os\ndef f(x):\n    os._exit(0)\n",
        "import sys\ndef f(x):\n    sys.exit(0)\n",
        "raise SystemExit(0)\n",
        "import os\nos._exit(0)\n",
        "import os, signal\ndef f(x):\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    ],
)
def test_ending_early_is_no_pass(sandbox: Sandbox, ending: str) -> None:
    assert not sandbox.run(program(ending)).passed


FORGER = """
import gc, json, os, sys
print("passed")
words = [text for text in gc.get_objects() if isinstance(text, str) and len(text) == 64]
frame, found = sys._getframe(), []
while frame:
    found += [str(value) for value in frame.f_locals.values()]
    frame = frame.f_back
secret = [word for word in words if all(c in "0123456789abcdef" for c in word)]
secret += [word for word in found if "only-the" + "-tests-say-this" in word]
for pid in (1, 2, os.getppid()):
    for name in ("mem", "environ", "cmdline", "fd/0", "fd/1"):
        try:
            secret.append(open(f"/proc/{pid}/{name}").read(1))
        except OSError:
            pass
verdict = json.dumps({"token": secret[0] if secret else "passed", "passed": True, "reason": "passed"}) + "\\n"
for descriptor in range(64):
    try:
        os.write(descriptor, verdict.encode())
    except OSError:
        pass
def f(x):
    return 0
"""


def test_a_pass_cannot_be_printed_or_forged(sandbox: Sandbox) -> None:
    verdict = sandbox.run(program(FORGER))
    assert not verdict.passed
    assert verdict.reason == "the program wrote over its own answers"
    # What it was after is nowhere in its reach: neither the token nor the tests.
    seen = FORGER.replace("return 0", "return secret")
    seen = seen[: seen.index("verdict = ")] + seen[seen.index("def f(x)") :]
    assert sandbox.run(
        program(seen, "def check(candidate):\n    assert candidate(0) == [], 'only-the-tests-say-this'\n")
    ).passed


def test_an_answer_that_equals_everything_is_no_pass(sandbox: Sandbox) -> None:
    yes = "class Yes(%s):\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef f(x):\n    return Yes(%s)\n"
    for kind, argument in (("object", ""), ("int", "7"), ("list", "[7]")):
        verdict = sandbox.run(program(yes % (kind, argument)))
        assert (verdict.passed, verdict.reason) == (False, "AssertionError"), kind


def test_a_loop_is_ended(sandbox: Sandbox) -> None:
    start = time.monotonic()
    assert not sandbox.run(program("while True: pass\n")).passed
    # Its second of processor, or eight by the clock, and a machine that is busy.
    assert time.monotonic() - start < 20


def test_a_sleeper_is_ended_by_the_clock(sandbox: Sandbox) -> None:
    short = Sandbox(sandbox.mechanism, Limits(seconds=1.0))
    verdict = short.run(program("import time\ntime.sleep(600)\n"))
    assert verdict.reason == "timed out after 1 s"


def test_a_fork_bomb_is_contained_and_cleared(sandbox: Sandbox) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    bomb = f"""
import os, sys, time
child = os.fork()
if child == 0:
    os.setsid()  # out of the process group
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", {mark!r}])
    os._exit(0)
os.waitpid(child, 0)  # the marked process is there before all places are taken
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.05)  # all that is allowed is taken; the rest of the machine needs its cores
"""
    brief, start, most = Sandbox(sandbox.mechanism, Limits(seconds=5.0)), time.monotonic(), 0
    result: list[bool] = []
    running = threading.Thread(target=lambda: result.append(brief.run(program(bomb)).passed))
    running.start()
    while running.is_alive():
        most = max(most, len(processes_with(mark)))
        time.sleep(0.05)
    assert result == [False]
    assert time.monotonic() - start < 30
    assert most >= 1, "the marked process never started, so its end proves nothing"
    assert gone(mark)


def test_processes_and_threads_are_counted(sandbox: Sandbox) -> None:
    source = """
import threading, time
def f(x):
    started = 0
    for _ in range(64):
        try:
            threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
        except RuntimeError:
            return started
        started += 1
    return started
"""
    test = f"def check(candidate):\n    assert candidate(0) <= {SMALL.processes} + 4, candidate(0)\n"
    assert sandbox.run(program(source, test)).passed


def test_endless_output_goes_nowhere(sandbox: Sandbox) -> None:
    loop = "while True:\n    print('x' * 65536)\n    print('y' * 65536, file=__import__('sys').stderr)\n"
    assert not sandbox.run(program(loop)).passed
    # An answer that never ends a line is cut off by its length.
    long = "def f(x):\n    return 'x' * (64 * 2**20)\n"
    assert not sandbox.run(program(long)).passed


def test_memory_is_bounded(sandbox: Sandbox) -> None:
    verdict = sandbox.run(program("held = bytearray(2**30)\n"))
    assert (verdict.passed, verdict.reason) == (False, "MemoryError")


def test_nothing_outside_can_be_read_or_deleted(sandbox: Sandbox, tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("kept")
    source = """
import os, shutil
def f(paths):
    seen = []
    for path in paths:
        try:
            seen += os.listdir(path) if os.path.isdir(path) else [open(path).read(9)]
        except OSError:
            pass
        shutil.rmtree(path, ignore_errors=True)
        try:
            os.unlink(path)
        except OSError:
            pass
    return seen
def g(x): pass
"""
    private = [
        str(Path.home()),
        "/root",
        "/home",
        os.getcwd(),
        str(kept),
        str(tmp_path),
        "/etc/passwd",
        "/proc/1/environ",
    ]
    test = f"def check(candidate):\n    seen = candidate({private!r})\n    assert seen == [], seen\n"
    assert sandbox.run(program(source, test)).reason == "passed"
    assert kept.read_text() == "kept"
    # What can be read, the system's libraries, cannot be deleted.
    library = os.__file__
    test = "def check(candidate):\n    assert candidate('/usr/bin')\n"
    sandbox.run(
        program("import os, shutil\ndef f(path):\n    shutil.rmtree(path, ignore_errors=True)\n    return True\n", test)
    )
    assert Path("/usr/bin").is_dir()
    assert Path(library).is_file()


def test_the_scratch_folder_is_small_empty_and_the_only_place_to_write(sandbox: Sandbox) -> None:
    source = """
import os
def f(places):
    written = []
    for place in places:
        try:
            open(os.path.join(place, "left"), "x").close()
            written.append(place)
        except OSError:
            pass
    return written
def fill(): pass
"""
    places = ["/scratch", "/", "/tmp", "/usr", "/dev", "/dev/shm", "/var/tmp", "/scripts", "/python"]
    test = f"def check(candidate):\n    written = candidate({places!r})\n    assert written == ['/scratch'], written\n"
    assert sandbox.run(program(source, test)).reason == "passed"
    assert sandbox.run(program(source, test)).reason == "passed", "the first program's file is still there"
    fill = """
def f(x):
    total = 0
    try:
        for n in range(100):
            with open(f"/scratch/{n}", "wb") as file:
                total += file.write(bytes(4 * 2**20))
    except OSError:
        pass
    return total
"""
    test = f"def check(candidate):\n    total = candidate(0)\n    assert 0 < total <= {SMALL.scratch_bytes}, total\n"
    assert sandbox.run(program(fill, test)).reason == "passed"


def test_no_socket_reaches_a_listener(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        source = f"""
import socket
def f(x):
    try:
        socket.create_connection(("127.0.0.1", {port}), timeout=1)
    except PermissionError:
        return "refused"
    except OSError as error:
        return str(error)
    return "connected"
"""
        assert sandbox.run(
            program(source, "def check(candidate):\n    assert candidate(0) == 'refused', candidate(0)\n")
        ).passed
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("target", ["os.getppid()", "1", "-1"])
def test_signals_reach_nobody_outside_and_win_nothing(sandbox: Sandbox, target: str) -> None:
    bystander = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
    try:
        signals = f"import os, signal\nfor s in (signal.SIGTERM, signal.SIGKILL):\n    os.kill({target}, s)\n"
        assert not sandbox.run(program(signals + "def f(x):\n    return 0\n")).passed
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_new_namespaces_and_uncounted_memory_are_refused(sandbox: Sandbox) -> None:
    source = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    got = []
    if libc.unshare(0x10000000) == 0: got.append("user namespace")
    if libc.shmget(0, 4096, 0o1600) >= 0: got.append("shared memory")
    if libc.memfd_create(b"x", 0) >= 0: got.append("anonymous file")
    if libc.ptrace(16, os.getppid(), 0, 0) == 0: got.append("the checker")
    return got
"""
    assert (
        sandbox.run(program(source, "def check(candidate):\n    assert candidate(0) == [], candidate(0)\n")).reason
        == "passed"
    )


def test_without_a_sandbox_only_unsafe_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_lack", lambda sandbox: "not allowed here")
    with pytest.raises(
        LangBridgeError, match=r"bubblewrap: not allowed here; namespaces: not allowed here.*--unsafe-code"
    ):
        find_sandbox()
    unsafe = find_sandbox(unsafe_code=True, limits=SMALL)
    assert unsafe.mechanism == "none"
    # No borders there, but a pass is still the checker's word, and a loop still ends.
    assert unsafe.run(program("def f(x):\n    return x + 1\n")).passed
    assert not unsafe.run(program("import os\ndef f(x):\n    print('passed')\n    os._exit(0)\n")).passed
    assert not unsafe.run(program("while True: pass\n")).passed


def test_a_mechanism_that_does_not_hold_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes without borders stand in for a mechanism that starts and protects nothing."""
    monkeypatch.setattr(module, "_COMMANDS", {**module._COMMANDS, "namespaces": module._unconfined})
    # However long its path, what a program did there is said whole.
    home = tmp_path.joinpath("home" * 50, "home" * 50)
    home.mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    module._lack.cache_clear()
    lack = module._lack(Sandbox("namespaces", SMALL))
    module._lack.cache_clear()
    assert lack is not None
    assert f"read {home}" in lack
    assert f"wrote into {home}" in lack
    assert list(home.iterdir()) == []


def test_limits_must_be_positive() -> None:
    with pytest.raises(LangBridgeError, match="limit seconds: expected more than 0, got 0"):
        Limits(seconds=0)
