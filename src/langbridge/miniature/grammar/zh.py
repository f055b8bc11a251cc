"""Chinese: no spaces, a classifier between number and noun."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {  # noun, classifier
    "apple": ("苹果", "个"), "book": ("书", "本"), "pencil": ("铅笔", "支"), "egg": ("鸡蛋", "个"),
    "ball": ("球", "个"), "card": ("卡片", "张"), "coin": ("硬币", "枚"), "cup": ("杯子", "个"),
    "orange": ("橙子", "个"), "toy": ("玩具", "个"), "flower": ("花", "朵"), "hat": ("帽子", "顶"),
}  # fmt: skip
VERBS = {
    "buy": "买", "find": "找到", "receive": "收到", "win": "赢得", "collect": "收集", "bring": "带来",
    "obtain": "获得", "take": "拿到",
    "lose": "丢失", "sell": "卖掉", "give": "送走", "donate": "捐出", "throw": "扔掉", "lend": "借出",
    "destroy": "毁掉", "return": "归还",
}  # fmt: skip
TIMES = {
    "": "", "then": "然后", "later": "后来", "morning": "早上", "evening": "晚上", "monday": "星期一",
    "friday": "星期五",
}  # fmt: skip


def say(*words: str, end: str = "。") -> str:
    return sentence(*words, end=end, space="")


def start(style: int, name: str, number: int, noun: str) -> str:
    word, classifier = NOUNS[noun]
    return say(("", "一开始")[style], name, "有", str(number), classifier, word)


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    word, classifier = NOUNS[noun]
    things, when = f"{number}{classifier}{word}", TIMES[time]
    return (
        say(when, name, VERBS[verb], "了", things),
        say(name, when, VERBS[verb], "了", things),
        say(when, name, VERBS[verb], "的是", things),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    word, classifier = NOUNS[noun]
    return say(name, ("现在", "最后")[style], "有多少", classifier, word, end="？")


GRAMMAR = Grammar(code="zh", name="Chinese", orders=3, styles=2, start=start, event=event, question=question, joiner="")
