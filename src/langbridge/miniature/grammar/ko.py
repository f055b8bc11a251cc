"""Korean: verb-final; particles follow the final sound of the word."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {  # with the object particle, counter, counter with the object particle
    "apple": ("사과를", "개", "사과"), "book": ("책을", "권", "책"), "pencil": ("연필을", "자루", "연필"),
    "egg": ("달걀을", "개", "달걀"), "ball": ("공을", "개", "공"), "card": ("카드를", "장", "카드"),
    "coin": ("동전을", "개", "동전"), "cup": ("컵을", "개", "컵"), "orange": ("오렌지를", "개", "오렌지"),
    "toy": ("장난감을", "개", "장난감"), "flower": ("꽃을", "송이", "꽃"), "hat": ("모자를", "개", "모자"),
}  # fmt: skip
COUNTER_OBJECT = {"개": "개를", "권": "권을", "자루": "자루를", "장": "장을", "송이": "송이를"}
VERBS = {
    "buy": "삽니다", "find": "발견합니다", "receive": "받습니다", "win": "획득합니다", "collect": "모읍니다",
    "bring": "가져옵니다", "obtain": "얻습니다", "take": "집습니다",
    "lose": "잃어버립니다", "sell": "팝니다", "give": "나눠 줍니다", "donate": "기부합니다", "throw": "버립니다",
    "lend": "빌려줍니다", "destroy": "망가뜨립니다", "return": "돌려줍니다",
}  # fmt: skip
TIMES = {
    "": "", "then": "그다음", "later": "나중에", "morning": "아침에", "evening": "저녁에", "monday": "월요일에",
    "friday": "금요일에",
}  # fmt: skip
VOWEL_FINAL = {"Anna", "Maria", "Nina", "Leo", "Eva", "Max", "Lena", "Omar", "Rosa", "Mina", "Sara"}


def topic(name: str) -> str:
    return name + ("는" if name in VOWEL_FINAL else "은")


def subject(name: str) -> str:
    return name + ("가" if name in VOWEL_FINAL else "이")


def start(style: int, name: str, number: int, noun: str) -> str:
    thing, counter, _ = NOUNS[noun]
    return sentence(("", "처음에")[style], topic(name), thing, f"{number}{counter}", "가지고 있습니다")


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    thing, counter, bare = NOUNS[noun]
    when = TIMES[time]
    return (
        sentence(when, topic(name), thing, f"{number}{counter}", VERBS[verb]),
        sentence(topic(name), when, bare, f"{number}{COUNTER_OBJECT[counter]}", VERBS[verb]),
        sentence(when, bare, f"{number}{COUNTER_OBJECT[counter]}", subject(name), VERBS[verb]),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    thing, counter, _ = NOUNS[noun]
    return sentence(topic(name), ("지금", "마지막에")[style], thing, "몇", counter, "가지고 있습니까", end="?")


GRAMMAR = Grammar(code="ko", name="Korean", orders=3, styles=2, start=start, event=event, question=question)
