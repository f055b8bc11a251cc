"""A plain causal model answers as the harness would have it answer, and more is known of its answers."""

import shutil
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from langbridge.evaluate.asking import GENERATE, SCORE, Request
from langbridge.evaluate.causal import CausalAsker
from langbridge.evaluate.models import load_asker

TEXTS = ["What is 12 + 30, please?", "b", "Two and two make what ", "c d", "a b c d e f g h"]
SETTINGS = {"until": ["q", "2"], "do_sample": False, "max_gen_toks": 12}


@pytest.fixture
def asker(base_folders: tuple[Path, Path]) -> CausalAsker:
    found, _ = load_asker(str(base_folders[1]), batch_size=8)
    assert isinstance(found, CausalAsker)
    return found


def asked(kind: str, texts: list[str], arguments: list) -> list[Request]:
    return [Request(kind, "", text, argument, "en") for text, argument in zip(texts, arguments, strict=True)]


def test_it_writes_and_scores_what_the_harness_does(asker: CausalAsker) -> None:
    for kind, arguments in (
        (GENERATE, [SETTINGS] * len(TEXTS)),
        (SCORE, [" so 4", "4", " four, five", "x", " yes"]),
    ):
        instances = [Instance(kind, {}, pair, 0, ("t", 0, 1)) for pair in zip(TEXTS, arguments, strict=True)]
        theirs = getattr(asker.lm, kind)(instances, disable_tqdm=True)
        ours = asker.answer(asked(kind, TEXTS, arguments))
        if kind == GENERATE:
            assert [one["text"] for one in ours] == theirs
            assert len(set(theirs)) > 2
        else:
            assert [one["greedy"] for one in ours] == [greedy for _, greedy in theirs]
            # Single precision, summed in another order.
            assert [one["loglikelihood"] for one in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)


def test_a_template_s_own_beginning_is_not_doubled_whatever_else_is_in_the_batch(asker: CausalAsker) -> None:
    (alone,) = asker.answer(asked(GENERATE, ["c d"], [SETTINGS]))
    assert asker.answer(asked(GENERATE, ["a", "<s>c d"], [SETTINGS] * 2))[1] == alone


def test_scores_of_a_long_prompt_are_those_of_its_end(asker: CausalAsker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker.lm, "_max_length", 16)
    text = "much more than sixteen tokens of prompt"
    instance = Instance(SCORE, {}, (text, " so 4"), 0, ("t", 0, 1))
    ((value, _),) = asker.lm.loglikelihood([instance], disable_tqdm=True)
    (ours,) = asker.answer(asked(SCORE, [text], [" so 4"]))
    assert ours == {"loglikelihood": pytest.approx(value, abs=1e-4), "greedy": False, "prompt_cut": True}


def test_the_head_runs_only_where_something_is_scored(asker: CausalAsker) -> None:
    seen: list[int] = []
    head = asker.lm.model.get_output_embeddings()
    head.register_forward_hook(lambda _module, _arguments, output: seen.append(output.shape[-2]))
    asker.answer(asked(SCORE, TEXTS[:2], ["abc", "de"]))
    assert seen == [5], "of a vocabulary of 150,000 words the logits of whole prompts are gigabytes"


def test_an_answer_is_cut_off_by_its_tokens_and_not_by_its_text(asker: CausalAsker, monkeypatch) -> None:
    unknown = asker.lm.tokenizer.unk_token_id  # no text is left of it, as of half a character

    def generate(input_ids: torch.Tensor, max_new_tokens: int, **_: object) -> torch.Tensor:
        return torch.cat([input_ids, torch.full((len(input_ids), max_new_tokens), unknown)], 1)

    monkeypatch.setattr(asker.lm.model, "generate", generate)
    (found,) = asker.answer(asked(GENERATE, ["a"], [SETTINGS]))
    assert found == {"text": "", "cut_off": True, "prompt_cut": False}


def test_a_tokenizer_s_own_limit_never_cuts_the_question(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(base_folders[1], tmp_path / "short")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 8  # as published tokenizers of models that read more by now
    tokenizer.save_pretrained(folder)
    long = "a long beginning, and the question: "
    whole = load_asker(str(base_folders[1]))[0].answer(asked(GENERATE, [long + "12?", long + "30?"], [SETTINGS] * 2))
    found = load_asker(str(folder))[0].answer(asked(GENERATE, [long + "12?", long + "30?"], [SETTINGS] * 2))
    assert found == whole
    assert found[0]["text"] != found[1]["text"]


def test_a_special_token_among_the_stops_ends_an_answer(asker: CausalAsker) -> None:
    (whole,) = asker.answer(asked(GENERATE, ["b"], [{**SETTINGS, "until": []}]))
    tokenizer = asker.lm.tokenizer
    third = tokenizer(whole["text"], add_special_tokens=False)["input_ids"][2]
    mark = tokenizer.convert_ids_to_tokens(third)
    tokenizer.add_special_tokens({"additional_special_tokens": [mark]})
    (found,) = asker.answer(asked(GENERATE, ["b"], [{**SETTINGS, "until": [mark]}]))
    assert found == {"text": whole["text"][: whole["text"].index(mark)], "cut_off": False, "prompt_cut": False}


def test_a_model_s_own_penalties_are_a_setting_of_its_run(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "penal"
    shutil.copytree(base_folders[1], folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config = GenerationConfig(repetition_penalty=1.1, do_sample=True, top_k=20)
    model.save_pretrained(folder)
    assert load_asker(str(folder))[0].settings()["generation_config"] == {"repetition_penalty": 1.1, "top_k": 20}
    assert "generation_config" not in load_asker(str(base_folders[1]))[0].settings()
