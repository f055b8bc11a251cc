"""An evaluation and an analysis through a real encoder and real language models, on a few questions of our own."""

import json
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.analyze.corpus import Corpus
from langbridge.analyze.representations import analyze_representations
from langbridge.analyze.soft_prompts import nearest_tokens
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.suites import load_suites
from langbridge.miniature.dataset import held_out_rows, training_rows
from langbridge.serve.engine import Decoding, Request
from langbridge.serve.load import load_bridge, load_engine
from langbridge.serve.routing import BRIDGE, TEXT, fit_route
from langbridge.serve.signals import Signals

QUESTIONS = {
    "en": ["Tom has 3 apples and buys 4. How many apples does he have?", "What is 5 plus 2?"],
    "te": ["Tom దగ్గర 3 ఆపిల్స్ ఉన్నాయి. అతను 4 కొన్నాడు. ఎన్ని ఆపిల్స్ ఉన్నాయి?", "5 + 2 ఎంత?"],
}
SENTENCES = {
    "en": ["The cat sleeps.", "It is raining today.", "I bought bread.", "She reads a book.", "The train is late.",
           "We live in a city.", "He plays football.", "The water is cold.", "They sing a song.", "My brother is ill."],
    "sw": ["Paka analala.", "Leo mvua inanyesha.", "Nilinunua mkate.", "Anasoma kitabu.", "Treni imechelewa.",
           "Tunaishi mjini.", "Anacheza mpira wa miguu.", "Maji ni baridi.", "Wanaimba.", "Ndugu yangu ni mgonjwa."],
}  # fmt: skip
NEW = 8


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for language, questions in QUESTIONS.items():
        rows = [{"q": question, "a": 7} for question in questions]
        (tmp_path / f"sums_{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.yaml").write_text("suite: sums\nfiles: sums_*.jsonl\nquestion: q\nanswer: a\n")
    return tmp_path / "sums.yaml"


@pytest.mark.parametrize("kind", ["language_model_folder", "bridge_folder"])
def test_an_evaluation_and_its_going_on(kind: str, suite: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = str(request.getfixturevalue(kind))
    engine = load_engine(folder, batch_size=2)
    tasks = load_suites([str(suite)], generation={"max_gen_toks": NEW})
    run = evaluate(engine, tasks, tmp_path / "run")
    assert run is not None
    samples = run.samples("sums")
    assert [(one.language, one.id) for one in samples] == [("en", "0"), ("en", "1"), ("te", "0"), ("te", "1")]
    tokenizer = engine.reader.tokenizer
    for one in samples:
        assert one.prompt.count("<|im_start|>user") == one.prompt.count("<|im_start|>assistant") == 1
        assert one.prompt.count("<|im_start|>system") <= 1
        assert one.prompt.endswith("<|im_start|>assistant\n")
        assert "<|im_" not in one.output, "an answer ends before the marks of its turn"
        assert one.extra["cut_off"] or len(tokenizer(one.output)["input_ids"]) < NEW
        assert not one.extra["prompt_cut"]
    engine.generate = None  # not asked again
    assert evaluate(engine, tasks, tmp_path / "run").results["tasks"] == run.results["tasks"]


def test_scores_are_the_harness_s_with_a_head_of_150_000_words(larger_language_model_folder: Path) -> None:
    engine = load_engine(larger_language_model_folder, dtype="bfloat16")
    assert engine.identity["model"], "a table of more than 2^24 values has a fingerprint"
    seen: list[int] = []
    head = engine.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _m, _a, out: seen.append(out.shape[-2]))
    requests, after = [Request("The capital of France is")] * 2, [" Paris.", " Nairobi."]
    found = dict(engine.score(requests, after))
    handle.remove()
    assert sum(seen) < 16, "the head runs at the continuations only"
    theirs = HFLM(pretrained=engine.model, tokenizer=engine.reader.tokenizer)
    asked = [Instance("loglikelihood", {}, (engine.shown(requests[0]), text), 0) for text in after]
    expected = [value for value, _ in theirs.loglikelihood(asked, disable_tqdm=True)]
    # Half precision: both batches differ in their padding, and logits of 20 have steps of an eighth.
    assert [found[place].log_probability for place in range(2)] == pytest.approx(expected, abs=0.5)
    assert found[0].log_probability > found[1].log_probability + 1


def test_a_prompt_longer_than_the_encoder_reads_is_answered_and_counted(bridge_folder: Path) -> None:
    long = Request("7 + 5?", "Question: 1 + 1?\nAnswer: 2\n\n" * 60)
    (found,) = load_engine(bridge_folder).answers([long], Decoding(2))
    assert found.prompt_cut


def test_an_analysis(bridge_folder: Path, tmp_path: Path) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder, dtype=torch.float32)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    ids = tuple(map(str, range(len(SENTENCES["en"]))))
    corpus = Corpus(tuple(SENTENCES), ids, tuple(map(tuple, SENTENCES.values())))
    numbers = analyze_representations(model, processor, corpus, tmp_path / "analysis")
    found = {(one["model"], one["stage"]): one["retrieval"]["all"]["to_pivot"]["value"] for one in numbers["stages"]}
    assert found["bridge", "encoder"] > 0.7, "the encoder knows translations of each other; chance is a tenth"
    assert found["bridge", "encoder"] > found["lm", "embeddings"]
    near = nearest_tokens(model, processor, SENTENCES["sw"][0], top=2)
    assert len(near.own) >= 3
    assert sum(near.vocabulary_scripts.values()) == pytest.approx(1.0)


def test_a_route_sends_english_as_text_and_other_languages_through_the_bridge(bridge_folder: Path) -> None:
    bridge = load_bridge(bridge_folder)
    english = [row["query"] for row in training_rows(24)]
    route = fit_route(*bridge, english[:16])
    assert route.gloss is not None, "a closed form on real models gives glosses that English tells"
    signals = Signals(*bridge)
    assert route.ways(english[16:], signals).count(TEXT) >= 7
    for language in ("sw", "te"):
        foreign = [row["question"] for row in held_out_rows(language, 8)]
        assert route.ways(foreign, signals).count(BRIDGE) >= 7, "SmolLM2 reads neither"
