"""The page, as people use it: in Chromium, by keyboard. `PAGE_SHOTS=FOLDER` keeps pictures of what was seen."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("websockets") is None, reason="websockets is not installed"),
]

TELUGU = "Tom దగ్గర 28 ఆపిల్స్ ఉన్నాయి. Tom 9 ఆపిల్స్ కొన్నారు. ఇప్పుడు Tom దగ్గర ఎన్ని ఆపిల్స్ ఉన్నాయి?"
URDU = "ٹام کے پاس 28 سیب ہیں۔ اس نے 9 سیب خریدے۔ اب اس کے پاس کتنے سیب ہیں؟"
ANSWERS = {
    TELUGU: "Tom has 28 apples. He buys 9 apples. 28 + 9 = 37.\n\nThe answer is 37.",
    URDU: "ٹام کے پاس 28 + 9 = 37 سیب ہیں۔ جواب 37 ہے۔",
    "code": "<img src=x onerror=alert(1)> <b>bold</b>",
}


def script(request: Any) -> str:
    asked = request.prompt or request.messages[-1]["content"]
    return ANSWERS.get(asked, " ".join(f"word{number}" for number in range(200)))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parent / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["browser"] = module
    spec.loader.exec_module(module)
    with module.opened(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    chromium.problems.clear()
    yield chromium
    assert not chromium.problems, chromium.problems


@pytest.fixture
def shot(browser: Any) -> Callable[[str], None]:
    folder = os.environ.get("PAGE_SHOTS")
    return lambda name: None if folder is None else browser.shot(Path(folder) / f"{name}.png")


DONE = "!document.querySelector('.writing') && document.getElementById('stop').hidden"


def texts(browser: Any, selector: str) -> list[str]:
    return browser.value(f"[...document.querySelectorAll('{selector}')].map(one => one.textContent)")


def say(browser: Any, text: str, done: bool = True) -> None:
    browser.value("document.getElementById('message').focus()")
    browser.type(text)
    browser.press("Enter")
    browser.wait("document.querySelector('.answer')")
    if done:
        browser.wait(DONE)


def test_a_conversation_in_two_scripts(serve, scripted, browser, shot) -> None:
    running = serve(scripted(script, pause=0.005))
    browser.open(running.url)
    shot("empty")
    browser.type("two")  # the field has the focus
    browser.press("Enter", shift=True)
    browser.type("lines")
    assert browser.value("document.getElementById('message').value") == "two\nlines"
    browser.value("document.getElementById('message').value = ''")
    say(browser, TELUGU)
    say(browser, URDU)
    assert texts(browser, ".asked") == [TELUGU, URDU]
    assert texts(browser, ".answer .text") == [ANSWERS[TELUGU], ANSWERS[URDU]]
    direction = "[...document.querySelectorAll('.answer .text')].map(one => getComputedStyle(one).direction)"
    assert browser.value(direction) == ["ltr", "rtl"]
    last, _ = running.engine.asked[-1]
    assert [turn["role"] for turn in last.messages] == ["user", "assistant", "user"]
    assert browser.value("document.getElementById('status').textContent") == ANSWERS[URDU]
    shot("telugu-urdu")
    browser.size(1100, 720, dark=True)
    shot("telugu-urdu-dark")
    browser.size(390, 780)
    assert browser.value("document.documentElement.scrollWidth") <= 390
    shot("telugu-urdu-phone")
    browser.value("document.getElementById('new').click()")
    say(browser, TELUGU)
    assert len(running.engine.asked[-1][0].messages) == 1


def test_it_is_written_as_it_comes_and_stops(serve, scripted, browser, shot) -> None:
    running = serve(scripted(script, pause=0.02))
    browser.open(running.url)
    say(browser, "long", done=False)
    browser.wait("document.querySelector('.answer .text').textContent.includes('word5')")
    shot("writing")
    browser.press("Escape")
    browser.wait(DONE)
    assert texts(browser, ".answer .note") == ["stopped"]
    assert "word199" not in texts(browser, ".answer .text")[0]
    running.eventually(lambda: len(running.engine.cancelled) == 1)
    shot("stopped")
    say(browser, "long", done=False)
    browser.wait("document.querySelectorAll('.answer .text')[1]?.textContent.includes('word5')")
    # By keyboard alone: from the field to the button, and press it.
    browser.press("Tab")
    assert browser.value("document.activeElement.id") == "stop"
    browser.press("Space")
    browser.wait(DONE)
    assert browser.value("document.activeElement.id") == "send"
    running.eventually(lambda: len(running.engine.cancelled) == 2)


def test_bridge_and_plain_model_side_by_side(serve, scripted, browser, shot) -> None:
    plain = scripted(lambda request: "I do not understand the question.", pause=0.005, chats=False)
    running = serve(scripted(script, pause=0.005), plain)
    browser.open(running.url)
    shot("beside-empty")
    say(browser, TELUGU)
    say(browser, TELUGU)
    assert texts(browser, ".answer h2") == ["bridge", "plain"] * 2
    assert texts(browser, ".answer .text")[:2] == [ANSWERS[TELUGU], "I do not understand the question."]
    assert len(running.engine.asked[-1][0].messages) == 3
    assert plain.asked[-1][0].prompt == TELUGU, "who does not chat gets the message alone"
    shot("beside")
    browser.size(390, 780)
    shot("beside-phone")
    browser.size(390, 780, dark=True)
    shot("beside-phone-dark")


def test_settings(serve, scripted, browser, shot) -> None:
    key = "a-key-of-one-client"
    running = serve(scripted(script), keys=[key])
    browser.size(1100, 720)
    browser.call("Page.navigate", url=running.url)
    browser.wait("document.getElementById('turns-note')?.textContent.includes('API key')")
    assert browser.value("document.activeElement.id") == "key"
    shot("key")
    browser.forgive("401")
    browser.type(key)
    browser.press("Enter")
    browser.wait("document.getElementById('models').textContent === 'bridge'")
    browser.value("document.getElementById('language').value = 'Telugu'")
    say(browser, "Hello")
    assert running.engine.asked[-1][0].messages[-1]["content"] == "Hello\nAnswer in Telugu."
    assert texts(browser, ".asked") == ["Hello\nAnswer in Telugu."], "what is sent is shown"
    browser.value("document.getElementById('open').click()")
    browser.size(390, 780)
    shot("settings-phone")
    browser.value("location.reload()")
    browser.wait("document.readyState === 'complete' && document.getElementById('key')?.value === ''")
    browser.wait("document.getElementById('turns-note').textContent.includes('API key')")
    browser.forgive("401")


def test_text_is_text_and_errors_are_said(serve, scripted, browser, shot) -> None:
    running = serve(scripted(script))
    browser.open(running.url)
    say(browser, "code")
    assert texts(browser, ".answer .text") == [ANSWERS["code"]]
    assert browser.value("document.querySelectorAll('.answer img, .answer b').length") == 0
    say(browser, "way too long")
    assert "shorten it" in texts(browser, ".answer .note.wrong")[0]
    browser.forgive("400")
    say(browser, "code")
    assert len(running.engine.asked[-1][0].messages) == 3, "what was refused is no part of the conversation"
    shot("error")


def test_every_field_has_a_label(serve, scripted, browser) -> None:
    browser.open(serve(scripted(script)).url)
    unlabelled = "[...document.querySelectorAll('input, select, textarea')].filter(one => !one.labels.length).length"
    assert browser.value(unlabelled) == 0
    browser.value("document.getElementById('open').click()")
    assert browser.value("document.getElementById('open').getAttribute('aria-expanded')") == "true"
    browser.value("document.activeElement.blur()")
    seen = []
    for _ in range(8):
        browser.press("Tab")
        seen.append(browser.value("document.activeElement.id || document.activeElement.tagName"))
    assert {"open", "language", "key", "message", "send"} <= set(seen)
