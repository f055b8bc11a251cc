"""French."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {  # plural, with "de" as "how many" wants it
    "apple": ("pommes", "de pommes"), "book": ("livres", "de livres"), "pencil": ("crayons", "de crayons"),
    "egg": ("œufs", "d'œufs"), "ball": ("balles", "de balles"), "card": ("cartes", "de cartes"),
    "coin": ("pièces", "de pièces"), "cup": ("tasses", "de tasses"), "orange": ("oranges", "d'oranges"),
    "toy": ("jouets", "de jouets"), "flower": ("fleurs", "de fleurs"), "hat": ("chapeaux", "de chapeaux"),
}  # fmt: skip
VERBS = {
    "buy": "achète", "find": "trouve", "receive": "reçoit", "win": "gagne", "collect": "ramasse",
    "bring": "apporte", "obtain": "obtient", "take": "prend",
    "lose": "perd", "sell": "vend", "give": "distribue", "donate": "donne", "throw": "jette", "lend": "prête",
    "destroy": "détruit", "return": "rend",
}  # fmt: skip
TIMES = {
    "": "", "then": "ensuite", "later": "plus tard", "morning": "le matin", "evening": "le soir",
    "monday": "lundi", "friday": "vendredi",
}  # fmt: skip


def start(style: int, name: str, number: int, noun: str) -> str:
    things = f"{number} {NOUNS[noun][0]}"
    return (sentence(name, "a", things), sentence("au début,", name, "a", things))[style]


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    things, when = f"{number} {NOUNS[noun][0]}", TIMES[time]
    first = f"{when}," if when else ""
    return (
        sentence(first, name, VERBS[verb], things),
        sentence(name, VERBS[verb], things, when),
        sentence(first, "ce sont", things, "que", name, VERBS[verb]),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    return sentence("combien", NOUNS[noun][1], "a", name, ("maintenant", "à la fin")[style], end=" ?")


GRAMMAR = Grammar(code="fr", name="French", orders=3, styles=2, start=start, event=event, question=question)
