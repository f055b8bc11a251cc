"""MMATH's documents: the question alone, with an answer that is a number or a formula."""

from collections.abc import Mapping, Sequence
from typing import Any

from math_verify import parse, verify

from langbridge.evaluate.answers import exact_number, with_ascii_digits
from langbridge.evaluate.benchmarks import Benchmark, dataset, read_rows, row_ids
from langbridge.evaluate.graders import Grade, Grader
from langbridge.files import BadRow

MMATH = Benchmark("mmath", ("{language}",), ("question", "answer"), texts=("question", "answer"))


class FormulaGrader(Grader):
    """The formula in the last `\\boxed{}`, else the last one at all, against the gold one: equal as mathematics, or as
    numbers that the language writes in its own way (`0,75`). Beside it, as `accuracy_boxed`, of answers in a box alone,
    which the publisher's evaluation asks for."""

    def grade(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        (output,) = results
        text = with_ascii_digits(output).replace("\\$", "$")
        gold, box = parse(doc["expected"]), _last_box(text)
        # The formula, and the text that it was read from; nothing where there is none.
        inside = [] if box is None else parse(f"\\boxed{{{box}}}")
        number = exact_number((box or "").replace("{,}", ","), doc["language"])
        boxed = verify(gold, inside) or (number is not None and number == exact_number(doc["expected"]))
        found = inside or parse(text)
        extracted = str(found[-1]) if found else None
        return Grade(output, extracted, boxed or verify(gold, found), {"accuracy_boxed": float(boxed)})


def _last_box(text: str) -> str | None:
    """What is in the last `\\boxed{}`; None where there is none, or where it was cut off."""
    _, opened, rest = text.rpartition("\\boxed{")
    depth = 1
    for place, character in enumerate(rest if opened else ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return rest[:place]
    return None


grader = FormulaGrader()


def load(language: str, data: Any = None, **_: Any) -> dict[str, Any]:
    found = read_rows(MMATH, data, language=language)
    documents = []
    for name, (where, row) in zip(row_ids(found, "gid"), found.rows, strict=True):
        if not parse(row["answer"]):
            raise BadRow(f"{where}, field 'answer': expected a number or a formula in $...$, got {row['answer']!r}")
        question, expected = row["question"].strip(), row["answer"]
        documents.append(
            {"id": name, "language": language, "prompt": question, "expected": expected, "target": expected}
        )
    return {"test": dataset(documents, found.origin)}
