"""Russian: the noun's case follows the number."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {  # after 2-4 (genitive singular), after 5-20 and "how many" (genitive plural)
    "apple": ("яблока", "яблок"), "book": ("книги", "книг"), "pencil": ("карандаша", "карандашей"),
    "egg": ("яйца", "яиц"), "ball": ("мяча", "мячей"), "card": ("карты", "карт"), "coin": ("монеты", "монет"),
    "cup": ("чашки", "чашек"), "orange": ("апельсина", "апельсинов"), "toy": ("игрушки", "игрушек"),
    "flower": ("цветка", "цветков"), "hat": ("шляпы", "шляп"),
}  # fmt: skip
VERBS = {
    "buy": "покупает", "find": "находит", "receive": "получает", "win": "выигрывает", "collect": "собирает",
    "bring": "приносит", "obtain": "добывает", "take": "берёт",
    "lose": "теряет", "sell": "продаёт", "give": "раздаёт", "donate": "жертвует", "throw": "выбрасывает",
    "lend": "одалживает", "destroy": "уничтожает", "return": "возвращает",
}  # fmt: skip
TIMES = {
    "": "", "then": "затем", "later": "позже", "morning": "утром", "evening": "вечером",
    "monday": "в понедельник", "friday": "в пятницу",
}  # fmt: skip


def counted(number: int, noun: str) -> str:
    """The noun phrase after a number; the world has no number that ends in 1 except 11."""
    few = number % 10 in (2, 3, 4) and number // 10 != 1
    return f"{number} {NOUNS[noun][0 if few else 1]}"


def start(style: int, name: str, number: int, noun: str) -> str:
    return (
        sentence("у", name, counted(number, noun)),
        sentence("сначала у", name, counted(number, noun)),
    )[style]


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    things, when = counted(number, noun), TIMES[time]
    return (
        sentence(when, name, VERBS[verb], things),
        sentence(name, when, VERBS[verb], things),
        sentence(when, things, VERBS[verb], name),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    return sentence("сколько", NOUNS[noun][1], ("теперь", "в конце")[style], "у", name, end="?")


GRAMMAR = Grammar(code="ru", name="Russian", orders=3, styles=2, start=start, event=event, question=question)
