"""Runs a command in new namespaces: no network, only the given files, only its own processes.

A standalone program of the standard library, which the sandbox starts with `python -I -S namespaces.py JSON`. It
does what bubblewrap does, by the same means of Linux (namespaces(7), pivot_root(2), mount_setattr(2), so Linux 5.12 or
later), where bubblewrap is not installed, or where it would run as root: a process limit does not bind root, so this
program leaves root for a user id that nobody else has.

JSON: `{"read_only": [[source, target], ...], "links": [[text, path], ...], "scratch": path, "scratch_bytes": n,
"environment": {...}, "command": [...]}`. Exit code 97 and a line on stderr where the machine does not allow it.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any, NoReturn

REFUSED = 97

_NEW_MOUNTS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 0x1000, 0x4000, 1 << 18
_MNT_DETACH = 2
_READ_ONLY_NOSUID = 1 | 2
_NODEV = 4
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_FIRST_PRIVATE_ID = 1_500_000_000
_OLD = "/.old"

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    arguments = [None if text is None else text.encode() for text in (source, target, kind)]
    more = None if options is None else options.encode()
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), more), f"mount {target}")


def _read_only(target: str, attributes: int, recursive: bool) -> None:
    # struct mount_attr: set, clear, propagation, user namespace.
    settings = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    where = (_AT_FDCWD, target.encode(), _AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(settings))
    _checked(_libc.syscall(_MOUNT_SETATTR, *where, ctypes.byref(settings), size), f"mount_setattr {target}")


def _has_id(number: int) -> bool:
    """Whether a user id is mapped here; in a rootless container few are."""
    with open("/proc/self/uid_map") as lines:
        ranges = [[int(word) for word in line.split()] for line in lines]
    return any(first <= number < first + count for first, _, count in ranges)


def _enter(root: bool) -> None:
    kinds = _NEW_MOUNTS | _NEW_UTS | _NEW_IPC | _NEW_PIDS | _NEW_NETWORK
    user, group = os.getuid(), os.getgid()
    _checked(_libc.unshare(kinds if root else kinds | _NEW_USER), "unshare")
    if not root:
        for file, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
            with open(f"/proc/self/{file}", "w") as opened:
                opened.write(text)


def _build(job: dict[str, Any]) -> None:
    """A root of nothing but the given folders, read-only, and the scratch folder, in memory."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # Any folder that always exists; the old /tmp reappears once the new root has left it.
    _mount("tmpfs", "/tmp", "tmpfs", _MS_NOSUID, "size=1m,mode=755")
    os.mkdir("/tmp" + _OLD)
    _checked(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b"/tmp", ("/tmp" + _OLD).encode()), "pivot_root")
    os.chdir("/")
    for source, target in job["read_only"]:
        old = _OLD + source
        if os.path.isdir(old):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "w").close()
        _mount(old, target, None, _MS_BIND | _MS_REC)
        device = source.startswith("/dev/")
        _read_only(target, _READ_ONLY_NOSUID | (0 if device else _NODEV), recursive=True)
    for text, path in job["links"]:
        os.symlink(text, path)
    os.makedirs(job["scratch"])
    size = f"size={job['scratch_bytes']},nr_inodes=1024,mode=1777"
    _mount("tmpfs", job["scratch"], "tmpfs", _MS_NOSUID | _MS_NODEV, size)
    _checked(_libc.umount2(_OLD.encode(), _MNT_DETACH), "umount2")
    os.rmdir(_OLD)
    _read_only("/", _READ_ONLY_NOSUID | _NODEV, recursive=False)


def _become_first_process(job: dict[str, Any], root: bool, launcher: int) -> NoReturn:
    if root:
        # An id for this sandbox alone, so that the process limit counts its processes and no others.
        private = _FIRST_PRIVATE_ID + launcher
        os.setgroups([])
        os.setresgid(private, private, private)
        os.setresuid(private, private, private)
    # After the change of user, which would clear it; and without privileges the end of one is the end of the other.
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl")
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl")
    os.chdir(job["scratch"])
    os.execve(job["command"][0], job["command"], job["environment"])


def main() -> None:
    job = json.loads(sys.argv[1])
    root = os.getuid() == 0 and _has_id(_FIRST_PRIVATE_ID)
    launcher = os.getpid()
    try:
        _enter(root)
        _build(job)
        child = os.fork()
        if not child:
            try:
                _become_first_process(job, root, launcher)
            except OSError as error:
                print(f"namespaces: {error}", file=sys.stderr, flush=True)
                os._exit(REFUSED)
        _, status = os.waitpid(child, 0)
    except OSError as error:
        print(f"namespaces: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
