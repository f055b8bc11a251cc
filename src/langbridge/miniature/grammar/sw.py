"""Swahili: "how many" agrees with the noun class."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {  # plural, "how many" in its class
    "apple": ("matufaa", "mangapi"), "book": ("vitabu", "vingapi"), "pencil": ("penseli", "ngapi"),
    "egg": ("mayai", "mangapi"), "ball": ("mipira", "mingapi"), "card": ("kadi", "ngapi"),
    "coin": ("sarafu", "ngapi"), "cup": ("vikombe", "vingapi"), "orange": ("machungwa", "mangapi"),
    "toy": ("midoli", "mingapi"), "flower": ("maua", "mangapi"), "hat": ("kofia", "ngapi"),
}  # fmt: skip
VERBS = {
    "buy": "ananunua", "find": "anaokota", "receive": "anapokea", "win": "anashinda", "collect": "anakusanya",
    "bring": "analeta", "obtain": "anapata", "take": "anachukua",
    "lose": "anapoteza", "sell": "anauza", "give": "anagawa", "donate": "anachangia", "throw": "anatupa",
    "lend": "anakopesha", "destroy": "anaharibu", "return": "anarudisha",
}  # fmt: skip
TIMES = {
    "": "", "then": "kisha", "later": "baadaye", "morning": "asubuhi", "evening": "jioni", "monday": "Jumatatu",
    "friday": "Ijumaa",
}  # fmt: skip


def start(style: int, name: str, number: int, noun: str) -> str:
    things = f"{NOUNS[noun][0]} {number}"
    return (sentence(name, "ana", things), sentence("mwanzoni", name, "ana", things))[style]


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    things, when = f"{NOUNS[noun][0]} {number}", TIMES[time]
    return (
        sentence(when, name, VERBS[verb], things),
        sentence(name, VERBS[verb], things, when),
        sentence(name, when, VERBS[verb], things),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    plural, how_many = NOUNS[noun]
    return sentence(name, "ana", plural, how_many, ("sasa", "mwishoni")[style], end="?")


GRAMMAR = Grammar(code="sw", name="Swahili", orders=3, styles=2, start=start, event=event, question=question)
