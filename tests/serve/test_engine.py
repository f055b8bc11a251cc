"""What an engine writes and scores: of a bridge and of a plain model the same as the model itself, in any batch."""

import functools
import shutil
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import Answer, Decoding, Request
from langbridge.serve.generation import seeded
from langbridge.serve.hf import HFEngine
from langbridge.serve.load import load_engine

PROMPTS = ["b", "What is 12 + 30, please?", "c d", "২৭ రె ท", "a", "Two and two make what "]
FEW = Decoding(12)


@pytest.fixture(scope="module")
def bridge(bridge_folder: Path) -> HFEngine:
    return load_engine(bridge_folder, batch_size=4)


@pytest.fixture(scope="module")
def plain(base_folders: tuple[Path, Path]) -> HFEngine:
    engine = load_engine(base_folders[1], batch_size=4)
    engine.reader.tokenizer.pad_token = None  # as most causal models' tokenizers are: the harder case
    return engine


@pytest.fixture(params=["bridge", "plain"])
def engine(request: pytest.FixtureRequest) -> HFEngine:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def theirs(base_folders: tuple[Path, Path]) -> HFLM:
    """The harness's own class on the same model."""
    return HFLM(pretrained=str(base_folders[1]), device="cpu", dtype="float32", batch_size=3, truncation=True)


def texts(engine: HFEngine, prompts: list[str], decoding: Decoding = FEW) -> list[str]:
    return [answer.text for answer in engine.answers(prompts, decoding)]


def likelihoods(engine: HFEngine, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    requests, continuations = [Request(prompt) for prompt, _ in pairs], [after for _, after in pairs]
    found = dict(engine.score(requests, continuations))
    return [(found[place].log_probability, found[place].greedy) for place in range(len(pairs))]


def written_by_hand(engine: HFEngine, prompt: str) -> str:
    """What `generate` of the model itself writes."""
    model, reader = engine.model, engine.reader
    if reader.kind == "bridge":
        inputs = dict(reader.processor([prompt]))
    else:
        inputs = {"input_ids": torch.tensor([reader.tokenizer(prompt)["input_ids"]])}
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return reader.decode(ids.tolist())


def test_answers_are_those_of_the_model_itself_in_any_batch_and_in_order(engine: HFEngine) -> None:
    alone = [written_by_hand(engine, prompt) for prompt in PROMPTS]
    assert len(set(alone)) > 2, f"the answers are too alike to tell an order: {alone}"
    assert texts(engine, PROMPTS) == alone
    assert [texts(engine, [prompt])[0] for prompt in PROMPTS] == alone
    assert engine.answers([], FEW) == []


def test_an_answer_knows_its_tokens_and_why_it_ended(engine: HFEngine) -> None:
    (cut,) = engine.answers(["b"], Decoding(3))
    assert (cut.tokens, cut.finish) == (3, "length")
    (ended,) = engine.answers(["b"], Decoding(12, stop=[cut.text[:1]]))
    assert (ended.text, ended.finish) == ("", "stop")
    assert 0 < ended.tokens < 3
    # In a batch the row is filled up to the length of others, which is not its own.
    assert engine.answers(["b", *PROMPTS[1:3]], Decoding(12, stop=[cut.text[:1]]))[0] == ended
    assert ended.prompt_tokens >= 2
    assert not ended.prompt_cut


def test_stop_strings_cut_exactly_wherever_they_begin_and_end(engine: HFEngine) -> None:
    alone = texts(engine, PROMPTS)
    whole = max(alone, key=len)
    prompt = PROMPTS[alone.index(whole)]
    for start, end in ((2, 3), (2, 5), (3, 8)):  # the tokenizer's tokens are characters: these straddle several
        stop = whole[start:end]
        assert texts(engine, [prompt], Decoding(12, ["never there", stop])) == [whole[: whole.index(stop)]]
    first, second = whole[5:7], whole[2:4]
    at = min(whole.index(first), whole.index(second))
    assert texts(engine, [prompt], Decoding(12, [first, second])) == [whole[:at]], "the first in the text"
    # Stops at what the second answer writes second: that row ends there, the others go on or stop in their own place.
    stop = alone[1][1]
    assert texts(engine, PROMPTS, Decoding(12, [stop])) == [text.split(stop)[0] for text in alone]


def test_a_special_token_among_the_stops_ends_an_answer(base_folders: tuple[Path, Path]) -> None:
    engine = load_engine(base_folders[1])
    (whole,) = texts(engine, ["b"])
    tokenizer = engine.reader.tokenizer
    mark = tokenizer.convert_ids_to_tokens(tokenizer(whole, add_special_tokens=False)["input_ids"][2])
    tokenizer.add_special_tokens({"additional_special_tokens": [mark]})
    (found,) = engine.answers(["b"], Decoding(12, [mark]))
    assert (found.text, found.finish) == (whole[: whole.index(mark)], "stop")


def test_an_answer_is_cut_off_by_its_tokens_and_not_by_its_text(plain: HFEngine) -> None:
    unknown = plain.reader.tokenizer.unk_token_id  # no text is left of it, as of half a character
    (found,) = plain.answers(["a"], Decoding(12, options={"sequence_bias": [[[unknown], 1e4]]}))
    assert (found.text, found.tokens, found.finish) == ("", 12, "length")


def test_memory_that_ends_makes_smaller_batches(engine: HFEngine, monkeypatch) -> None:
    drawn = Decoding(12, options={"num_beams": 2})
    alone, generate, sizes = texts(engine, PROMPTS, drawn), engine.model.generate, list[int]()

    def small(input_ids: torch.Tensor, **kwargs: object) -> torch.Tensor:
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(engine.model, "generate", small)
    assert texts(engine, PROMPTS, drawn) == alone
    assert sizes == [4, 2, 2, 2]


def test_where_an_answer_ends_the_next_question_is_read(engine: HFEngine, monkeypatch) -> None:
    """The longest of five prompts, of the four that are read first, ends after its first letters: the fifth has its
    place from there on."""
    asked = [PROMPTS[place] for place in (0, 2, 3, 5, 1)]
    alone = texts(engine, asked)
    stop = alone[-1][:2]
    assert not any(stop in text for text in alone[:-1])
    rows = passes_of(engine, monkeypatch)
    assert texts(engine, asked, Decoding(12, [stop])) == [*alone[:-1], ""]
    begun = rows.index(1)
    assert rows[: begun + 2] == [*[4] * begun, 1, 4]
    assert begun <= 3
    assert len(rows) <= begun + 12, "the fifth answer's own tokens, and those before it is begun"


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_where_memory_ends_all_begin_again_where_they_are(engine: HFEngine, monkeypatch, where: str) -> None:
    alone = texts(engine, PROMPTS)
    rows = passes_of(engine, monkeypatch, most=2, when=lambda width: (width > 1) == (where == "reading"))
    assert texts(engine, PROMPTS) == alone
    assert max(rows[rows.index(2) :]) == 2, "it is not tried again with more"
    passes_of(engine, monkeypatch, most=0)
    with pytest.raises(LangBridgeError, match="memory: not even one input at a time fits"):
        texts(engine, PROMPTS)


def passes_of(engine: HFEngine, monkeypatch, most: int = 99, when=lambda width: True) -> list[int]:
    """Rows of every pass of the model that writes; memory ends with more than `most` of them."""
    writer, rows = getattr(engine.model, "language_model", engine.model), list[int]()
    forward = writer.forward

    @functools.wraps(forward)
    def limited(*args: object, **kwargs: object) -> object:
        given = kwargs.get("input_ids") if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
        rows.append(len(given))
        if len(given) > most and when(given.shape[1]):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(writer, "forward", limited)
    return rows


def test_an_answer_goes_on_after_its_prefix(engine: HFEngine) -> None:
    request = Request("c d", prefix="It is 4")
    assert engine.shown(request).endswith("It is 4")
    (found,) = engine.answers([request], FEW)
    assert found.text != texts(engine, ["c d"])[0]
    if engine.reader.kind == "bridge":
        inputs = engine.reader.processor(["c d"], lm_prefix=["It is 4"])
        ids = engine.model.generate(**inputs, max_new_tokens=12)[0, inputs["input_ids"].shape[1] :]
        assert found.text == engine.reader.decode(ids.tolist())


# Likelihoods


@torch.inference_mode()
def by_hand(engine: HFEngine, context: str, continuation: str) -> tuple[float, bool]:
    """Token by token, each after one more forward pass over the prompt and what is known so far."""
    processor = engine.reader.processor
    inputs = processor([context])
    total, greedy = 0.0, True
    for token in processor.tokenizer(continuation, add_special_tokens=False)["input_ids"]:
        logits = engine.model(**inputs).logits[0, -1].log_softmax(-1)
        total, greedy = total + float(logits[token]), greedy and int(logits.argmax()) == token
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return total, greedy


def test_likelihoods_of_a_bridge_are_those_of_its_forward_pass(bridge: HFEngine) -> None:
    first = texts(bridge, ["b"])[0][:1]
    pairs = [("b", " x"), ("What is 12 + 30, please?", " it is 42"), ("c d", " no"), ("a", ""), ("b", f" {first}")]
    found = likelihoods(bridge, pairs)
    for (context, continuation), (value, greedy) in zip(pairs, found, strict=True):
        expected, wanted = by_hand(bridge, context, continuation.removeprefix(" "))
        # Single precision, summed over up to 12 tokens in another order.
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == wanted
    assert found[3] == (0.0, True), "nothing to write is certain"
    assert found[4][1], "what it writes first is greedy"


def their_likelihoods(theirs: HFLM, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    return theirs.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)


def test_after_no_prompt_a_bridge_scores_as_its_language_model_does(bridge: HFEngine, theirs: HFLM) -> None:
    pairs = [("", " hello there"), ("", "x"), ("", " 12")]
    for ours, (value, greedy) in zip(likelihoods(bridge, pairs), their_likelihoods(theirs, pairs), strict=True):
        # Single precision in batches of other shapes.
        assert ours == (pytest.approx(value, abs=1e-4), greedy)


def test_a_plain_model_writes_and_scores_as_the_harness_has_it(plain: HFEngine, theirs: HFLM) -> None:
    settings = {"until": ["q", "2"], "do_sample": False, "max_gen_toks": 12}
    asked = [Instance("generate_until", {}, (prompt, settings), 0) for prompt in PROMPTS]
    written = theirs.generate_until(asked, disable_tqdm=True)
    assert texts(plain, PROMPTS, Decoding(12, ["q", "2"])) == written
    assert len(set(written)) > 2
    pairs = list(zip(PROMPTS, [" so 4", "4", " four, five", "x", " yes", "4"], strict=True))
    for ours, (value, greedy) in zip(likelihoods(plain, pairs), their_likelihoods(theirs, pairs), strict=True):
        assert ours == (pytest.approx(value, abs=1e-4), greedy)  # as above


def test_likelihoods_after_a_long_prompt_are_those_after_its_end(base_folders, monkeypatch) -> None:
    plain = load_engine(base_folders[1], max_length=16)
    short = HFLM(pretrained=str(base_folders[1]), device="cpu", dtype="float32", max_length=16)
    pairs = [("much more than sixteen tokens of prompt", " so 4")]
    ((value, _),) = their_likelihoods(short, pairs)
    ((_, found),) = plain.score([Request(pairs[0][0])], [" so 4"])
    assert found.log_probability == pytest.approx(value, abs=1e-4)  # as above
    assert found.prompt_cut


def test_the_head_runs_only_where_something_is_scored(engine: HFEngine) -> None:
    seen: list[int] = []
    head = engine.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, _arguments, output: seen.append(output.shape[-2]))
    likelihoods(engine, [(PROMPTS[0], "abc"), (PROMPTS[1], "de")])
    handle.remove()
    assert seen == [5], "of a vocabulary of 150,000 words the logits of whole prompts are gigabytes"


# What answers depend on


def test_a_template_s_own_beginning_is_not_doubled_whatever_else_is_in_the_batch(plain: HFEngine) -> None:
    assert plain.answers(["a", "<s>c d"], FEW)[1] == plain.answers(["c d"], FEW)[0]


def test_a_tokenizer_s_own_limit_never_cuts_the_question(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(base_folders[1], tmp_path / "short")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 8  # as published tokenizers of models that read more by now
    tokenizer.save_pretrained(folder)
    asked = ["a long beginning, and the question: 12?", "a long beginning, and the question: 30?"]
    found = texts(load_engine(folder), asked)
    assert found == texts(load_engine(base_folders[1]), asked)
    assert found[0] != found[1]


def test_a_model_s_own_penalties_are_part_of_its_identity(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(base_folders[1], tmp_path / "penal")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config = GenerationConfig(repetition_penalty=1.1, do_sample=True, top_k=20)
    model.save_pretrained(folder)
    assert load_engine(folder).identity["generation_config"] == {"repetition_penalty": 1.1, "top_k": 20}
    assert "generation_config" not in load_engine(base_folders[1]).identity


def draw(batch: list, **settings: int) -> list[float]:
    with seeded(batch, **settings):
        return torch.rand(4).tolist()


def test_random_numbers_depend_on_seed_and_batch_alone() -> None:
    first = draw(["a", 0])
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    assert draw(["a", 0]) == first
    assert torch.rand(2).tolist() == expected, "what comes after is as if nothing had been drawn"
    assert draw(["a", 1]) != first, "another sample of the same question"
    assert draw(["a", 0], seed=43) != first


def test_samples_can_be_drawn_again_and_each_is_another(bridge_folder: Path, base_folders) -> None:
    drawn = Decoding(8, options={"do_sample": True, "temperature": 1.0})
    for folder in (bridge_folder, base_folders[1]):
        engine = load_engine(folder, batch_size=1)
        assert engine.identity["seed"] == 42

        def sample(engine: HFEngine = engine) -> list[Answer]:
            torch.rand(3)
            return engine.answers([Request("b", key=("b", place)) for place in range(3)], drawn)

        first = sample()
        assert sample() == first
        assert len({answer.text for answer in first}) > 1


def test_no_empty_batches(base_folders) -> None:
    with pytest.raises(LangBridgeError, match="batch_size: expected at least 1, got 0"):
        load_engine(base_folders[1], batch_size=0).answers(["a"], FEW)
