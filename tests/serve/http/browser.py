"""Chromium without a window, driven over its DevTools protocol."""

import base64
import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect


@contextmanager
def opened(chromium: str, profile: Path) -> "Iterator[Browser]":
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-proxy-server",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = next((found for line in process.stderr if (found := re.search(r"ws://\S+", line))), None)
            assert said is not None, "chromium did not start"
            with connect(said[0], max_size=None, proxy=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()


class Browser:
    """One page. problems: what its console says is wrong, requests to elsewhere included."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self._ids = itertools.count(1)
        self.problems: list[str] = []
        self._session: str | None = None
        (page,) = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        session = {} if self._session is None else {"sessionId": self._session}
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters, **session}))
        while True:
            found = json.loads(self._socket.recv(timeout=20))
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]
            told = found["params"].get("entry", {"level": "error"}) if "params" in found else {}
            if found.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded") and told["level"] == "error":
                self.problems.append(json.dumps(found["params"]))

    def open(self, url: str, width: int = 1100, height: int = 720, dark: bool = False) -> None:
        self.size(width, height, dark)
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && document.getElementById('models').textContent !== ''")

    def size(self, width: int, height: int, dark: bool = False) -> None:
        phone = width < 500
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 10.0) -> None:
        until = time.monotonic() + seconds
        while not self._holds(script):
            assert time.monotonic() < until, f"it did not come about: {script}"
            time.sleep(0.02)

    def _holds(self, script: str) -> bool:
        try:
            return bool(self.value(f"!!({script})"))
        except AssertionError:  # the page is being replaced by another
            return False

    def forgive(self, what: str, seconds: float = 10.0) -> None:
        """Wait for the console to tell of something that was meant to go wrong, and forget it."""
        until = time.monotonic() + seconds
        while not self.problems:
            assert time.monotonic() < until, f"the console does not tell of {what}"
            self.value("1")
        assert len(self.problems) == 1
        assert what in self.problems.pop()

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, shift: bool = False) -> None:
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "Space": 32, "ArrowDown": 40}[key]
        text = {"Enter": {"text": "\r"}, "Space": {"text": " "}}.get(key, {})
        event = {
            "key": " " if key == "Space" else key,
            "code": key,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def shot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
