"""Prompt templates by name, as text, and filled."""

import pytest

from langbridge.errors import LangBridgeError
from langbridge.serve.templates import TEMPLATES, fill, template_text


def test_templates_hold_the_prompt_and_braces_stay() -> None:
    for name in TEMPLATES:
        filled = fill(template_text(name), "a {prompt} {x}", "sw")
        assert filled.count("a {prompt} {x}") == 1
        assert "{language}" not in filled
    assert fill(template_text("plain"), "x") == "x"
    assert fill(template_text("metamath"), "x").endswith("### Instruction:\nx\n\n### Response:")
    assert fill(template_text("orca2"), "x").endswith("user\nx<|im_end|>\n<|im_start|>assistant\n")
    for code in ("sw", "swa", "swh_Latn"):  # as suites and users write it
        assert "Please answer in Swahili." in fill(template_text("mathoctopus"), "x", code)
    assert "Please answer in Amharic." in fill(template_text("mathoctopus"), "x", "amh")
    assert fill("Q: {prompt}", "x") == "Q: x"
    assert fill(template_text("{prompt}\nAgain: {prompt}"), "{prompt}") == "{prompt}\nAgain: {prompt}"
    assert fill("Q: {prompt}|{prompt}", "2?", shots="1! ") == "Q: 1! 2?|2?", "what is read twice is the question"
    assert template_text("chat") == "{prompt}"
    assert fill(template_text("chat: {prompt}\nAnswer in {language}."), "x", "sw") == "x\nAnswer in Swahili."


def test_wrong_templates_are_named() -> None:
    with pytest.raises(LangBridgeError, match="got 'metamaths', expected one of plain, metamath"):
        template_text("metamaths")
    for turn, mark in (("chat: <soft>{prompt}</soft>", "<soft>"), ("chat: {shots}{prompt}", "{shots}")):
        with pytest.raises(LangBridgeError, match=f"whose {mark} only a bridge has"):
            template_text(turn)
    with pytest.raises(LangBridgeError, match=r"got 'chat: so', expected .* that contains \{prompt\}"):
        template_text("chat: so")
    with pytest.raises(LangBridgeError, match="the language 'xx'"):
        fill(template_text("mathoctopus"), "x", "xx")
