"""German: the finite verb stands second, separable prefixes at the end."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {
    "apple": "Äpfel", "book": "Bücher", "pencil": "Bleistifte", "egg": "Eier", "ball": "Bälle", "card": "Karten",
    "coin": "Münzen", "cup": "Tassen", "orange": "Orangen", "toy": "Spielzeuge", "flower": "Blumen",
    "hat": "Hüte",
}  # fmt: skip
VERBS = {  # finite form, separated prefix
    "buy": ("kauft", ""), "find": ("findet", ""), "receive": ("bekommt", ""), "win": ("gewinnt", ""),
    "collect": ("sammelt", ""), "bring": ("bringt", "mit"), "obtain": ("erhält", ""), "take": ("nimmt", ""),
    "lose": ("verliert", ""), "sell": ("verkauft", ""), "give": ("verschenkt", ""), "donate": ("spendet", ""),
    "throw": ("wirft", "weg"), "lend": ("verleiht", ""), "destroy": ("zerstört", ""),
    "return": ("gibt", "zurück"),
}  # fmt: skip
TIMES = {
    "": "", "then": "dann", "later": "später", "morning": "am Morgen", "evening": "am Abend",
    "monday": "am Montag", "friday": "am Freitag",
}  # fmt: skip


def start(style: int, name: str, number: int, noun: str) -> str:
    things = f"{number} {NOUNS[noun]}"
    return (sentence(name, "hat", things), sentence("am Anfang hat", name, things))[style]


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    finite, prefix = VERBS[verb]
    things, when = f"{number} {NOUNS[noun]}", TIMES[time]
    plain = sentence(name, finite, when, things, prefix)
    return (
        sentence(when, finite, name, things, prefix) if when else plain,
        plain,
        sentence(things, finite, name, when, prefix),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    return sentence("wie viele", NOUNS[noun], "hat", name, ("jetzt", "am Ende")[style], end="?")


GRAMMAR = Grammar(code="de", name="German", orders=3, styles=2, start=start, event=event, question=question)
