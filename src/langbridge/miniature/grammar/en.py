"""English. Six event orders: its one rigid order would teach a reader to expect the verb before the number."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {
    "apple": "apples", "book": "books", "pencil": "pencils", "egg": "eggs", "ball": "balls", "card": "cards",
    "coin": "coins", "cup": "cups", "orange": "oranges", "toy": "toys", "flower": "flowers", "hat": "hats",
}  # fmt: skip
VERBS = {  # present, past participle
    "buy": ("buys", "bought"), "find": ("finds", "found"), "receive": ("receives", "received"),
    "win": ("wins", "won"), "collect": ("collects", "collected"), "bring": ("brings", "brought"),
    "obtain": ("obtains", "obtained"), "take": ("takes", "taken"),
    "lose": ("loses", "lost"), "sell": ("sells", "sold"), "give": ("gives away", "given away"),
    "donate": ("donates", "donated"), "throw": ("throws away", "thrown away"), "lend": ("lends", "lent"),
    "destroy": ("destroys", "destroyed"), "return": ("returns", "returned"),
}  # fmt: skip
TIMES = {
    "": "", "then": "then", "later": "later", "morning": "in the morning", "evening": "in the evening",
    "monday": "on Monday", "friday": "on Friday",
}  # fmt: skip


def start(style: int, name: str, number: int, noun: str) -> str:
    things = f"{number} {NOUNS[noun]}"
    return (
        sentence(name, "has", things),
        sentence("at first", name, "has", things),
        sentence(name, "starts with", things),
        sentence("at first", things, "belong to", name),
    )[style]


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    present, participle = VERBS[verb]
    things, when = f"{number} {NOUNS[noun]}", TIMES[time]
    return (
        sentence(when, name, present, things),
        sentence(name, present, things, when),
        sentence(when, things, "are", participle, "by", name),
        sentence("it is", things, "that", name, present, when),
        sentence("what", name, present, when, "is", things),
        sentence("as for", NOUNS[noun] + ",", str(number), "are", participle, "by", name, when),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    return (
        sentence("how many", NOUNS[noun], "does", name, "have now", end="?"),
        sentence("how many", NOUNS[noun], "does", name, "have in the end", end="?"),
    )[style]


GRAMMAR = Grammar(code="en", name="English", orders=6, styles=4, start=start, event=event, question=question)
