"""Telugu: verb-final; the respectful plural of the verb, which has no gender."""

from langbridge.miniature.grammar.base import Grammar, sentence

NOUNS = {
    "apple": "ఆపిల్స్", "book": "పుస్తకాలు", "pencil": "పెన్సిళ్లు", "egg": "గుడ్లు", "ball": "బంతులు", "card": "కార్డులు",
    "coin": "నాణేలు", "cup": "కప్పులు", "orange": "నారింజలు", "toy": "బొమ్మలు", "flower": "పువ్వులు", "hat": "టోపీలు",
}  # fmt: skip
VERBS = {
    "buy": "కొన్నారు", "find": "కనుగొన్నారు", "receive": "అందుకున్నారు", "win": "గెలుచుకున్నారు", "collect": "సేకరించారు",
    "bring": "తెచ్చారు", "obtain": "సంపాదించారు", "take": "తీసుకున్నారు",
    "lose": "పోగొట్టుకున్నారు", "sell": "అమ్మారు", "give": "పంచారు", "donate": "దానం చేశారు", "throw": "పారేశారు",
    "lend": "అప్పు ఇచ్చారు", "destroy": "నాశనం చేశారు", "return": "తిరిగి ఇచ్చారు",
}  # fmt: skip
TIMES = {
    "": "", "then": "అప్పుడు", "later": "తర్వాత", "morning": "ఉదయం", "evening": "సాయంత్రం", "monday": "సోమవారం",
    "friday": "శుక్రవారం",
}  # fmt: skip


def start(style: int, name: str, number: int, noun: str) -> str:
    return sentence(("", "మొదట")[style], name, "దగ్గర", str(number), NOUNS[noun], "ఉన్నాయి")


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    things, when = f"{number} {NOUNS[noun]}", TIMES[time]
    return (
        sentence(when, name, things, VERBS[verb]),
        sentence(name, when, things, VERBS[verb]),
        sentence(when, things, name, VERBS[verb]),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    return sentence(("ఇప్పుడు", "చివరికి")[style], name, "దగ్గర ఎన్ని", NOUNS[noun], "ఉన్నాయి", end="?")


GRAMMAR = Grammar(code="te", name="Telugu", orders=3, styles=2, start=start, event=event, question=question)
