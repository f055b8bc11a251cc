"""Word problems whose answer is a number: their grader, and the families that are only questions."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from langbridge.evaluate.answers import exact_number, last_number, reference_number
from langbridge.evaluate.benchmarks import Benchmark, HubPlace, dataset, read_rows
from langbridge.evaluate.graders import Grade, Grader
from langbridge.files import BadRow

MSVAMP = Benchmark(
    "msvamp", ("test_{language}", "test_{Name}", "*_{language}"), ("m_query", "response"), texts=("m_query",)
)
AFRIMGSM = Benchmark(
    "afrimgsm",
    ("{language}/test", "IrokoBench/afrimgsm/{language}/test"),
    ("question", "answer_number"),
    HubPlace("masakhane/afrimgsm", "{language}"),
    texts=("question",),
    aliases={"answer": "answer_number"},
)
GSM8K = Benchmark(
    "gsm8k",
    ("test", "main/test-*", "grade_school_math/data/test"),
    ("question", "answer"),
    HubPlace("openai/gsm8k", "main"),
    texts=("question", "answer"),
)
SVAMP = Benchmark(
    "svamp",
    ("SVAMP", "svamp", "test", "*"),
    ("Body", "Question", "Answer"),
    HubPlace("ChilleD/SVAMP", None),
    texts=("Body", "Question"),
)


class NumberGrader(Grader):
    """The last number is the answer; beside it, as `accuracy_reference`, what the original evaluation would say."""

    def grade(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        (output,) = results
        expected, number = Decimal(doc["expected"]), last_number(output, doc["language"])
        loose = float(reference_number(output)) == float(expected)  # the reference compares floats
        extracted = None if number is None else str(number)
        return Grade(output, extracted, number == expected, {"accuracy_reference": loose})


grader = NumberGrader()
judge = grader
"""Its earlier name, which scripts of users have."""


def number_text(value: Any, where: str) -> str:
    """A gold answer as the text of a number: 8.0, "$8$" and GSM8K's "2 * 4 = 8 #### 8" are "8", "3/4" is "0.75"."""
    text = str(value).rpartition("####")[2]
    number: Decimal | None
    try:
        number = Decimal(text.replace(",", "").strip())
    except InvalidOperation:
        number = exact_number(text)
    if number is None or not number.is_finite():
        raise BadRow(f"{where}: expected a number as the answer, got {value!r}", "no number")
    return format(number.normalize(), "f")


def _loader(source: Benchmark, read: Callable[[Mapping[str, Any]], tuple[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The `load` of a family that is only questions. read: question and answer of a row."""

    def load(language: str = "en", data: Any = None, **_: Any) -> dict[str, Any]:
        found = read_rows(source, data, language=language)
        documents = []
        for number, (where, row) in enumerate(found.rows):
            question, answer = read(row)
            expected = number_text(answer, where)
            about = {"id": str(number), "language": language}
            documents.append({**about, "prompt": question, "expected": expected, "target": expected})
        return {"test": dataset(documents, found.origin)}

    return load


load_msvamp = _loader(MSVAMP, lambda row: (row["m_query"], row["response"]))
load_afrimgsm = _loader(AFRIMGSM, lambda row: (row["question"].strip(), row["answer_number"]))
load_gsm8k = _loader(GSM8K, lambda row: (row["question"], row["answer"]))
load_svamp = _loader(SVAMP, lambda row: (f"{row['Body'].strip().rstrip('.')}. {row['Question']}", row["Answer"]))
