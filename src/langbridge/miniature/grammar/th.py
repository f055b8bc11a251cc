"""Thai: no spaces between words, none but a space between sentences; number and classifier follow the noun."""

from langbridge.miniature.grammar.base import Grammar

NOUNS = {  # noun, classifier
    "apple": ("แอปเปิล", "ผล"), "book": ("หนังสือ", "เล่ม"), "pencil": ("ดินสอ", "แท่ง"), "egg": ("ไข่", "ฟอง"),
    "ball": ("ลูกบอล", "ลูก"), "card": ("การ์ด", "ใบ"), "coin": ("เหรียญ", "เหรียญ"), "cup": ("ถ้วย", "ใบ"),
    "orange": ("ส้ม", "ผล"), "toy": ("ของเล่น", "ชิ้น"), "flower": ("ดอกไม้", "ดอก"), "hat": ("หมวก", "ใบ"),
}  # fmt: skip
VERBS = {  # before the object, after it
    "buy": ("ซื้อ", ""), "find": ("เจอ", ""), "receive": ("ได้รับ", ""), "win": ("ชนะได้", ""),
    "collect": ("เก็บ", ""), "bring": ("นำ", "มา"), "obtain": ("หามาได้", ""), "take": ("หยิบ", ""),
    "lose": ("ทำ", "หาย"), "sell": ("ขาย", ""), "give": ("แจก", ""), "donate": ("บริจาค", ""),
    "throw": ("ทิ้ง", ""), "lend": ("ให้ยืม", ""), "destroy": ("ทำลาย", ""), "return": ("คืน", ""),
}  # fmt: skip
TIMES = {
    "": "", "then": "จากนั้น", "later": "ต่อมา", "morning": "ตอนเช้า", "evening": "ตอนเย็น", "monday": "วันจันทร์",
    "friday": "วันศุกร์",
}  # fmt: skip
SENTENCE_INITIAL = {"then", "later"}


def say(*words: str) -> str:
    return " ".join(word for word in words if word)


def start(style: int, name: str, number: int, noun: str) -> str:
    word, classifier = NOUNS[noun]
    return say(("", "ตอนแรก")[style], name, "มี" + word, str(number), classifier)


def event(order: int, name: str, verb: str, number: int, noun: str, time: str) -> str:
    word, classifier = NOUNS[noun]
    before, after = VERBS[verb]
    when = TIMES[time]
    plain = say(when, name, before + word, str(number), classifier + after)
    return (
        plain,
        plain if time in SENTENCE_INITIAL else say(name, before + word, str(number), classifier + after + when),
        say(when, "สิ่งที่", name, before + after + "คือ" + word, str(number), classifier),
    )[order]


def question(style: int, name: str, noun: str) -> str:
    word, classifier = NOUNS[noun]
    return say(("ตอนนี้", "สุดท้าย")[style], name, "มี" + word + "กี่" + classifier)


GRAMMAR = Grammar(code="th", name="Thai", orders=3, styles=2, start=start, event=event, question=question)
