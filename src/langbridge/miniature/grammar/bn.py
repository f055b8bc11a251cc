"""Bengali: verb-final, the classifier -টি on the number."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {
    "apple": "আপেল", "book": "বই", "pencil": "পেন্সিল", "egg": "ডিম", "ball": "বল", "card": "কার্ড", "coin": "মুদ্রা",
    "cup": "কাপ", "orange": "কমলা", "toy": "খেলনা", "flower": "ফুল", "hat": "টুপি",
}  # fmt: skip
VERBS = {
    "buy": "কেনে", "find": "খুঁজে পায়", "receive": "গ্রহণ করে", "win": "জেতে", "collect": "সংগ্রহ করে", "bring": "আনে",
    "obtain": "অর্জন করে", "take": "নেয়",
    "lose": "হারায়", "sell": "বিক্রি করে", "give": "বিলিয়ে দেয়", "donate": "দান করে", "throw": "ফেলে দেয়", "lend": "ধার দেয়",
    "destroy": "নষ্ট করে", "return": "ফেরত দেয়",
}  # fmt: skip
TIMES = {
    "": "", "then": "তারপর", "later": "পরে", "morning": "সকালে", "evening": "সন্ধ্যায়", "monday": "সোমবার",
    "friday": "শুক্রবার",
}  # fmt: skip


def start(style: int, name: str, number: int, noun: str) -> str:
    return sentence(("", "শুরুতে")[style], f"{name}-এর কাছে", f"{number}টি", NOUNS[noun], "আছে", end="।")


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    things, when = f"{number}টি {NOUNS[noun]}", TIMES[time]
    return (
        sentence(when, name, things, VERBS[verb], end="।"),
        sentence(name, when, things, VERBS[verb], end="।"),
        sentence(when, things, name, VERBS[verb], end="।"),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    return sentence(f"{name}-এর কাছে", ("এখন", "শেষে")[style], "কয়টি", NOUNS[noun], "আছে", end="?")


GRAMMAR = Grammar(code="bn", name="Bengali", orders=3, styles=2, start=start, event=event, question=question)
