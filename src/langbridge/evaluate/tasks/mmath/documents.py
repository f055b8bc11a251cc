"""MMATH's documents: the question alone, with an answer that is a number or a formula."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from math_verify import parse, verify

from langbridge.evaluate.answers import with_ascii_digits
from langbridge.evaluate.benchmarks import Benchmark, dataset, read_rows, row_ids
from langbridge.evaluate.graders import Grade, Grader
from langbridge.files import BadRow

MMATH = Benchmark("mmath", ("{language}",), ("question", "answer"), texts=("question", "answer"))


class FormulaGrader(Grader):
    """The last formula of an answer, that in a `\\boxed{}` first, against the gold one: equal as mathematics.
    Beside it, as `accuracy_boxed`, whether it stands in a box, which the publisher's evaluation asks for."""

    def grade(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        (output,) = results
        # The formula, and the text that it was read from; nothing where there is none.
        text = with_ascii_digits(output).replace("\\$", "$")
        found = parse(text)
        extracted, right = str(found[-1]) if found else None, verify(parse(doc["expected"]), found)
        boxed = extracted is not None and re.search(r"\\boxed\{\s*" + re.escape(extracted), text) is not None
        return Grade(output, extracted, right, {"accuracy_boxed": float(right and boxed)})


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
