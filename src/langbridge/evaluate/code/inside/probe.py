"""A program that tries to break out, run in a sandbox before any other; it does no harm where it succeeds."""

import os
import signal
import socket
from contextlib import suppress


def intrusions(private: list[str], processes: int, memory_bytes: int) -> list[str]:
    """What it succeeded in: reading private folders, writing outside, sockets, processes, memory."""
    found = []
    for folder in private:
        with suppress(OSError):
            os.listdir(folder)
            found.append(f"read {folder}")
    for folder in ("/", "/usr", "/tmp", "/dev", *private):
        path = os.path.join(folder, f".langbridge-probe-{os.getpid()}")
        with suppress(OSError):
            open(path, "x").close()
            os.unlink(path)
            found.append(f"wrote into {folder}")
    with suppress(OSError):
        socket.socket().close()
        found.append("opened a socket")
    if _children(2 * processes + 8) > processes + 8:
        found.append(f"started more than {processes} processes")
    with suppress(MemoryError):
        bytearray(2 * memory_bytes)
        found.append(f"took more than {memory_bytes} bytes")
    return found


def _children(wanted: int) -> int:
    """How many sleeping children can be started, up to a bound."""
    children = []
    with suppress(OSError):
        for _ in range(wanted):
            child = os.fork()
            if not child:
                signal.alarm(5)
                signal.pause()
                os._exit(0)
            children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(children)
