"""Irrevocable limits of a process: resources, and system calls that no benchmark program needs.

The sandbox's namespaces close off files, network and processes. These limits close what is left: memory
that no limit counts (shared memory, anonymous files), new namespaces with their own unlimited mounts, sockets, and the
inspection of other processes.
"""

import ctypes
import os
import resource
import struct
from typing import Any

_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# Name: numbers on x86_64 and on aarch64 (asm/unistd.h of Linux).
_DENIED = {
    "socket": (41, 198), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "shmget": (29, 194),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
}  # fmt: skip
_CLONE = (56, 220)
_CLONE3 = 435
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables above, and the kernel's AUDIT_ARCH number."""
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""

_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050000 | 1, 0x00050000 | 38


def closed_to_inspection() -> None:
    """No process without privileges may trace this one, read its memory or take its open files."""
    _prctl(_PR_SET_DUMPABLE, 0)


def limit(limits: dict[str, int]) -> None:
    """Resource limits for this process and its children; none of them can be raised again.

    Without `processes` their number is not limited: outside a sandbox it would count all that the user runs.
    """
    for name, value in (
        ("AS", limits["memory_bytes"]),
        ("CPU", limits["cpu_seconds"]),
        ("FSIZE", limits["file_bytes"]),
        ("NOFILE", limits["open_files"]),
        ("NPROC", limits.get("processes")),
        ("CORE", 0),
    ):
        if value is not None:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def deny_system_calls() -> None:
    """Refuse the calls of `_DENIED`, and new namespaces by `clone`, to this process and its children.

    Raises `OSError` where the kernel or the machine's architecture has no such filter.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(f"no system call filter for {machine}")
    column, architecture = _ARCHITECTURES[machine]
    program = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
    ]
    if machine == "x86_64":  # the x32 calls have numbers of their own
        program += [(_JUMP_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _EPERM)]
    for numbers in _DENIED.values():
        program += [(_JUMP_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _EPERM)]
    # The flags of clone3 lie in memory where a filter cannot look; the C library then falls back to clone.
    program += [(_JUMP_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ENOSYS)]
    program += [
        (_JUMP_EQUAL, 0, 3, _CLONE[column]),
        (_LOAD, 0, 0, 16),  # the low half of the first argument, on little-endian machines
        (_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HL", len(program), ctypes.addressof(buffer)))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header))


def _prctl(option: int, first: int, second: Any = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    third = second if not isinstance(second, int) else ctypes.c_ulong(second)
    if libc.prctl(option, ctypes.c_ulong(first), third, ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
