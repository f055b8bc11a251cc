"""Prompt templates of the language models that LangBridge was published with, by name.

A bridge has its template in its processor. These are for plain language models, and for bridges that were saved without
one. `{prompt}` stands for the prompt, which may be read twice (RE2, Xu et al., EMNLP 2024), and `{language}`, where it
stands, for the English name of its language.
"""

from langbridge.errors import LangBridgeError
from langbridge.languages import english_name
from langbridge.model.sequence import CHAT, CLOSE, FIELD, OPEN, SHOTS, chats, turn_of

_ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request"
_ORCA2_SYSTEM = (
    "You are Orca, an AI language model created by Microsoft. You are a cautious assistant. You carefully follow "
    "instructions. You are helpful and harmless and you follow ethical guidelines and promote positive behavior."
)

TEMPLATES = {
    # Base models (Llama 2, Llemma, Code Llama) read the few-shot prompt, or the code, as it is.
    "plain": "{prompt}",
    "metamath": _ALPACA + ".\n\n### Instruction:\n{prompt}\n\n### Response:",
    "orca2": f"<|im_start|>system\n{_ORCA2_SYSTEM}<|im_end|>\n"
    "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
    "mathoctopus": _ALPACA + " in {language}. Please answer in {language}.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:",
}


def template_text(template: str) -> str:
    """The text of a template given by name or as text with `{prompt}` in it; of `chat` and `chat: TURN` that of the
    user's turn. Raises `LangBridgeError`."""
    text = (turn_of(template) or FIELD) if chats(template) else TEMPLATES.get(template, template)
    if found := [mark for mark in (OPEN, CLOSE, SHOTS) if mark in text]:
        raise LangBridgeError(
            f"template: got {template!r}, whose {found[0]} only a bridge has; a model that reads text alone takes "
            f"{FIELD} without it"
        )
    if FIELD not in text:
        names = ", ".join([*TEMPLATES, CHAT])
        raise LangBridgeError(
            f"template: got {template!r}, expected one of {names}, or a text or '{CHAT}: TURN' that contains {FIELD}"
        )
    return text


def fill(template: str, prompt: str, language: str = "en", shots: str = "") -> str:
    """A prompt in a template's text, worked examples before the first of its places. Braces in them are only braces."""
    name = english_name(language)
    if "{language}" in template and name is None:
        raise LangBridgeError(f"template: it asks for the name of the language {language!r}, which is not known here")
    before, *after = template.replace("{language}", name or "").split(FIELD)
    return prompt.join([before + shots, *after])
