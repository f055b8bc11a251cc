"""SIB-200's documents: the same sentences in every language, each with one of seven topics, chosen or written."""

from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import word_choice
from langbridge.evaluate.benchmarks import Benchmark, HubPlace, dataset, read_rows, row_ids
from langbridge.evaluate.graders import MostProbable, WrittenAnswer

SIB200 = Benchmark(
    "sib200",
    ("{language}/test", "data/annotated/{language}/test"),
    ("index_id", "category", "text"),
    HubPlace("Davlan/sib200", "{language}"),
    texts=("category", "text"),
)

TOPICS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")

_WRITTEN_AS = {
    **{topic: topic for topic in TOPICS},
    "science": "science/technology",
    "technology": "science/technology",
    "science and technology": "science/technology",
    "sport": "sports",
}


choice_grader = MostProbable(named=True)
topic_grader = WrittenAnswer(lambda output, doc: word_choice(output, _WRITTEN_AS, bare=True))


def load(language: str, data: Any = None, form: str = "choice", **_: Any) -> dict[str, Any]:
    """form: `choice` between the topics, asked as AfroBench's first prompt does, or `written`. The question and the
    names of the topics are English for every language."""
    among = f"Given the categories {', '.join(TOPICS[:-1])}, or {TOPICS[-1]}; what category does the text: "
    ends = {"choice": " belong to: \n\n", "written": " belong to?\nAnswer with the category only."}
    found = read_rows(SIB200, data, language=language)
    documents = []
    for name, (where, row) in zip(row_ids(found, "index_id"), found.rows, strict=True):
        if row["category"] not in TOPICS:
            raise LangBridgeError(f"{where}: expected one of {', '.join(TOPICS)}, got the category {row['category']!r}")
        documents.append(
            {
                "id": name,
                "language": language,
                "prompt": f"{among}'{row['text'].strip()}'{ends[form]}",
                "expected": row["category"],
                "target": row["category"],
                "choices": list(TOPICS),
                "label": TOPICS.index(row["category"]),
            }
        )
    return {"test": dataset(documents, found.origin)}
