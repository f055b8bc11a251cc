"""Japanese: verb-final, no spaces, a counter after the number."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {  # noun, counter
    "apple": ("りんご", "個"), "book": ("本", "冊"), "pencil": ("鉛筆", "本"), "egg": ("卵", "個"),
    "ball": ("ボール", "個"), "card": ("カード", "枚"), "coin": ("硬貨", "枚"), "cup": ("コップ", "個"),
    "orange": ("オレンジ", "個"), "toy": ("おもちゃ", "個"), "flower": ("花", "本"), "hat": ("帽子", "個"),
}  # fmt: skip
VERBS = {
    "buy": "買います", "find": "見つけます", "receive": "もらいます", "win": "勝ち取ります",
    "collect": "集めます", "bring": "持ってきます", "obtain": "手に入れます", "take": "取ります",
    "lose": "なくします", "sell": "売ります", "give": "配ります", "donate": "寄付します", "throw": "捨てます",
    "lend": "貸します", "destroy": "壊します", "return": "返します",
}  # fmt: skip
TIMES = {
    "": "", "then": "それから", "later": "後で", "morning": "朝", "evening": "夜", "monday": "月曜日に",
    "friday": "金曜日に",
}  # fmt: skip


def say(*words: str, end: str = "。") -> str:
    return sentence(*words, end=end, space="")


def start(style: int, name: str, number: int, noun: str) -> str:
    word, counter = NOUNS[noun]
    return say(("", "最初、")[style], name, "は", word, "を", f"{number}{counter}", "持っています")


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    word, counter = NOUNS[noun]
    when, first = TIMES[time], TIMES[time] + "、" if time else ""
    return (
        say(first, name, "は", word, "を", f"{number}{counter}", VERBS[verb]),
        say(name, "は", when, word, "を", f"{number}{counter}", VERBS[verb]),
        say(first, word, "を", f"{number}{counter}、", name, "が", VERBS[verb]),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    word, counter = NOUNS[noun]
    return say(name, "は", ("今", "最後に")[style], word, "を何", counter, "持っていますか")


GRAMMAR = Grammar(
    code="ja", name="Japanese", orders=3, styles=2, start=start, event=event, question=question, joiner=""
)
