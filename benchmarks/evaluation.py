"""How much faster batches make an evaluation, and whether they change an answer.

A bridge of about 100 million random parameters answers the first questions of MGSM in each of its 11 languages,
greedily and in single precision, through the engine: sorted batches against one question at a time, as the
reference implementation evaluates. Where two answers differ, the first token that differs is looked at: only a near tie
of the two best logits excuses it.

    python benchmarks/evaluation.py --data DIR
    python benchmarks/evaluation.py --data DIR --models FOLDER,FOLDER --dtypes float32,bfloat16 --batch-sizes 1,8,32
    python benchmarks/evaluation.py --data DIR --models FOLDER --dtypes bfloat16 --new-tokens 512 --ends

DIR holds MGSM as `mgsm_LANG.jsonl` or `mgsm/mgsm_LANG.jsonl`. With --models, bridges or plain language models, each is
asked as `langbridge evaluate` asks it, in every precision and at every batch size, and writes all new tokens each time:
questions a minute, and how much of the time is spent outside the models. With --ends answers end where they end, and
the same questions are asked twice in turn: as the product does, with a new question where an answer has ended, and in
batches that wait for their longest answer.
"""

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, MT5Config, MT5EncoderModel, PreTrainedTokenizerFast

from langbridge.evaluate.suites import load_suites
from langbridge.model import build_bridge
from langbridge.serve.engine import Decoding, Request
from langbridge.serve.load import bridge_engine, load_engine

TIE = 1e-4
"""Two logits closer than this may change places in another order of summation."""
VOCABULARY = 16000


def tokenizer(texts: list[str], single: str, **special: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the questions about as well as a published one would."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    names = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    ids = [(name, raw.token_to_id(name)) for name in ("<s>", "</s>")]
    raw.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", eos_token="</s>", pad_token="<pad>", **special
    )


def make_bridge(folder: Path, texts: list[str]) -> tuple:
    torch.manual_seed(0)
    encoder = MT5EncoderModel(
        MT5Config(vocab_size=VOCABULARY, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6)
    )
    language_model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=640, intermediate_size=1792, num_hidden_layers=12,
            num_attention_heads=10, max_position_embeddings=1024, tie_word_embeddings=True,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
            initializer_range=0.06,  # wide enough that answers depend on the question
        )
    )  # fmt: skip
    encoder.save_pretrained(folder / "encoder")
    tokenizer(texts, "$A </s>").save_pretrained(folder / "encoder")
    language_model.save_pretrained(folder / "language_model")
    tokenizer(texts, "<s> $A", bos_token="<s>").save_pretrained(folder / "language_model")
    return build_bridge(folder / "encoder", folder / "language_model")


def run(model: Any, processor: Any, prompts: list[str], decoding: Decoding, batch_size: int) -> tuple[list[str], float]:
    engine = bridge_engine(model, processor, batch_size)
    engine.answers(prompts[:1], decoding)  # first use sets things up
    start = time.perf_counter()
    answers = engine.answers(prompts, decoding)
    return [one.text for one in answers], time.perf_counter() - start


@torch.inference_mode()
def gap(model: Any, processor: Any, prompt: str, one: str, other: str) -> float:
    """The difference of the two best logits where two answers to a prompt part."""
    first, second = (processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (one, other))
    place = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    inputs = processor([prompt], lm_prefix=[processor.tokenizer.decode(first[:place])])
    best = model(**inputs).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


def speeds(folder: str, dtype: str, documents: list[list[dict]], new_tokens: int, batch_sizes: list[int]) -> list[dict]:
    """A row for each batch size: the same questions to the same model, one size after the other."""
    engine = load_engine(folder, dtype=dtype)
    inside = 0.0

    def timed(forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            start = time.perf_counter()
            found = forward(*args, **kwargs)
            inside += time.perf_counter() - start
            return found

        return run

    # A bridge's encoder runs once before generation, and not inside the bridge's own pass.
    for part in filter(None, (engine.model, getattr(engine.model, "encoder", None))):
        part.forward = timed(part.forward)
    decoding = Decoding(new_tokens, ["</s>"], {"min_new_tokens": new_tokens})
    requests = [Request(doc["prompt"], language=doc["language"]) for own in documents for doc in own]
    engine.answers(requests[:1], decoding)  # first use sets things up
    rows = []
    for batch_size in batch_sizes:
        engine.batch_size, inside, start = batch_size, 0.0, time.perf_counter()
        engine.answers(requests, decoding)
        seconds = time.perf_counter() - start
        rows.append(
            {
                "model": Path(folder).name, "dtype": dtype, "batch_size": batch_size, "questions": len(requests),
                "seconds": round(seconds, 1), "questions_a_minute": round(60 * len(requests) / seconds, 1),
                "outside_the_models": round(1 - inside / seconds, 3),
            }
        )  # fmt: skip
    return rows


WAITING = {"use_cache": True}
"""A setting that changes nothing, but is none of those with which answers make room for the next."""


def ends(folder: str, dtype: str, documents: list[list[dict]], new_tokens: int, batch_size: int) -> list[dict]:
    """A row for each of four runs, two in each way, in turn."""
    engine = load_engine(folder, dtype=dtype, batch_size=batch_size)
    requests = [Request(doc["prompt"], language=doc["language"]) for own in documents for doc in own]
    engine.answers(requests[:1], Decoding(2))  # first use sets things up
    rows, first = [], None
    for way, options in [("rolling", {}), ("waiting", WAITING)] * 2:
        start = time.perf_counter()
        answers = engine.answers(requests, Decoding(new_tokens, options=options))
        first = first or answers
        rows.append(
            {
                "model": Path(folder).name, "dtype": dtype, "batch_size": batch_size, "questions": len(requests),
                "way": way, "seconds": round(time.perf_counter() - start, 1),
                "tokens": [min(found := [one.tokens for one in answers]), sum(found) // len(found), max(found)],
                "other_answers": sum(one.text != two.text for one, two in zip(answers, first, strict=True)),
            }
        )  # fmt: skip
    return rows


def listed(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--questions", type=int, default=20, help="in each language")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--models", type=listed, help="folders to ask instead of the random bridge")
    parser.add_argument("--dtypes", type=listed, default=["float32"])
    parser.add_argument("--batch-sizes", type=listed, default=["1", "8", "32"])
    parser.add_argument("--ends", action="store_true", help="let answers end, and compare two ways; with --models")
    parser.add_argument("--languages", type=listed, help="default: all eleven")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tasks = load_suites(["mgsm"], data=arguments.data, languages=arguments.languages)
    documents = [list(one.task.eval_docs)[: arguments.questions] for one in tasks]
    if arguments.models:
        sizes = [int(size) for size in arguments.batch_sizes]
        rows = [
            row
            for folder in arguments.models
            for dtype in arguments.dtypes
            for row in (
                ends(folder, dtype, documents, arguments.new_tokens, arguments.batch_size)
                if arguments.ends
                else speeds(folder, dtype, documents, arguments.new_tokens, sizes)
            )
        ]
        print(
            json.dumps({"threads": torch.get_num_threads(), "new_tokens": arguments.new_tokens, "rows": rows}, indent=1)
        )
        return
    prompts = [doc["prompt"] for language in documents for doc in language]
    with tempfile.TemporaryDirectory() as folder:
        model, processor = make_bridge(Path(folder), prompts)
    decoding = Decoding(arguments.new_tokens)
    batched, fast = run(model, processor, prompts, decoding, arguments.batch_size)
    single, slow = run(model, processor, prompts, decoding, 1)
    different = [i for i in range(len(prompts)) if batched[i] != single[i]]
    gaps = [gap(model, processor, prompts[i], batched[i], single[i]) for i in different]
    print(
        json.dumps(
            {
                "parameters": sum(p.numel() for p in model.parameters()),
                "threads": torch.get_num_threads(),
                "questions": len(prompts),
                "distinct_answers": len(set(single)),
                "batch_size": arguments.batch_size,
                "seconds_batched": round(fast, 1),
                "seconds_one_by_one": round(slow, 1),
                "ratio": round(slow / fast, 2),
                "different_answers": len(different),
                "of_these_within_a_tie": sum(value < TIE for value in gaps),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
