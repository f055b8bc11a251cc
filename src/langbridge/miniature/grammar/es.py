"""Spanish."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {  # plural, "how many" in the noun's gender
    "apple": ("manzanas", "cuántas"), "book": ("libros", "cuántos"), "pencil": ("lápices", "cuántos"),
    "egg": ("huevos", "cuántos"), "ball": ("pelotas", "cuántas"), "card": ("tarjetas", "cuántas"),
    "coin": ("monedas", "cuántas"), "cup": ("tazas", "cuántas"), "orange": ("naranjas", "cuántas"),
    "toy": ("juguetes", "cuántos"), "flower": ("flores", "cuántas"), "hat": ("sombreros", "cuántos"),
}  # fmt: skip
VERBS = {
    "buy": "compra", "find": "encuentra", "receive": "recibe", "win": "gana", "collect": "recoge",
    "bring": "trae", "obtain": "obtiene", "take": "toma",
    "lose": "pierde", "sell": "vende", "give": "regala", "donate": "dona", "throw": "tira", "lend": "presta",
    "destroy": "destruye", "return": "devuelve",
}  # fmt: skip
TIMES = {
    "": "", "then": "luego", "later": "más tarde", "morning": "por la mañana", "evening": "por la noche",
    "monday": "el lunes", "friday": "el viernes",
}  # fmt: skip


def start(style: int, name: str, number: int, noun: str) -> str:
    things = f"{number} {NOUNS[noun][0]}"
    return (sentence(name, "tiene", things), sentence("al principio", name, "tiene", things))[style]


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    things, when = f"{number} {NOUNS[noun][0]}", TIMES[time]
    return (
        sentence(when, name, VERBS[verb], things),
        sentence(name, VERBS[verb], things, when),
        sentence(when, VERBS[verb], name, things),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    plural, how_many = NOUNS[noun]
    return "¿" + sentence(how_many, plural, "tiene", name, ("ahora", "al final")[style], end="?")


GRAMMAR = Grammar(code="es", name="Spanish", orders=3, styles=2, start=start, event=event, question=question)
