"""The language model teaches its own bridge: what it reads, what it refuses, and that it works."""

import json

import pytest
import torch

from langbridge.data import Example, TextExample
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl
from langbridge.model import LangBridgeModel
from langbridge.train import answers, train
from langbridge.train.microbatches import in_passes
from langbridge.train.objectives import objective_of
from langbridge.train.prepare import build_model, load_processor
from langbridge.train.reading import reading_batches

PAIRS = [Example("say ab", "abab"), Example("say bbbbbb", "b")]
SHORT = ("min_encoder_length=4", "max_encoder_length=8", "min_lm_length=4", "max_length=64")
IDS, MASK = "teacher_input_ids", "teacher_attention_mask"


@pytest.fixture
def distil(load):
    return lambda *changes: load("objective=distil", *changes)


def made(recipe, examples):
    own, processor = objective_of(recipe), load_processor(recipe)
    batch = own.collator(processor)(examples)
    batch.pop("rows")
    return own, processor, batch


def taught(processor, batch, row):
    """What the teacher reads of a row, as text."""
    return processor.tokenizer.decode(batch[IDS][row][batch[MASK][row].bool()])


@pytest.mark.parametrize(
    ("template", "prefix"),
    [
        ("Q: {prompt} A:", "<s>Q: say ab A:"),
        ("Q: <soft>{prompt}</soft> A:", "<s>Q: say ab A:"),
        ("<soft>{prompt}</soft>{prompt}", "<s>say absay ab"),
        ("<soft>{prompt}</soft>, or <soft>{prompt}</soft>!", "<s>say ab, or say ab!"),
    ],
)
def test_the_teacher_reads_the_same_text_as_its_own_tokens(distil, template, prefix):
    _, processor, batch = made(distil(f"template={template}"), PAIRS)
    assert taught(processor, batch, 0) == f"{prefix}abab</s>"
    student = batch["input_ids"][0][batch["attention_mask"][0].bool()]
    behind = len(student) - 1 - int((student == processor.soft_prompt_token_id).nonzero().max())
    assert batch[IDS][0][batch[MASK][0].bool()][-behind:].tolist() == student[-behind:].tolist()


def test_a_chat_template_is_the_teachers_too(distil, base_folders, tmp_path):
    from transformers import AutoTokenizer

    folder = tmp_path / "chat"
    recipe = distil(f"language_model={base_folders[1]}")
    tokenizer = AutoTokenizer.from_pretrained(base_folders[1])
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    build_model(recipe, load_processor(recipe)).language_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _, processor, batch = made(distil(f"language_model={folder}", "template=chat", "system=Hm"), PAIRS)
    assert taught(processor, batch, 0) == "<system>Hm</s><user>say ab</s><assistant>abab</s>"


def test_of_a_text_the_teacher_reads_the_beginning_itself(distil):
    text = "say aaa and then abab baba and so on and on"
    _, processor, batch = made(distil("data.text=query", *SHORT), [TextExample(text)] * 2)
    assert taught(processor, batch, 0) == f"<s>{text}</s>"
    target = processor.tokenizer.decode(batch["labels"][0][batch["labels"][0] >= 0])
    assert text.endswith(target.removesuffix("</s>"))
    assert len(text) - 8 < len(target) < len(text)


def test_a_target_is_cut_where_the_teacher_has_no_more_room(distil):
    # The resampler reads any prompt into two soft prompts: the teacher's sequence is the longer one.
    recipe = distil("connector={kind: resampler, num_latents: 2}", "max_encoder_length=40", "max_length=32")
    own, processor = objective_of(recipe), load_processor(recipe)
    collate = own.collator(processor)
    with pytest.warns(UserWarning, match=r"rows:1: the target was cut to fit max_length=32 behind the teacher's"):
        batch = collate([Example("say " + "a" * 20, "b" * 24, "rows:1"), Example("say", "b", "rows:2")])
    assert collate.cuts.counts == {"prompts": 0, "targets": 1}
    batch.pop("rows")
    assert taught(processor, batch, 0) == "<s>say " + "a" * 20 + "b" * 7
    assert (batch["labels"][0] >= 0).sum() == 7
    assert int(batch["attention_mask"][0].sum()) == 1 + 3 + 7
    total, count = own.loss(build_model(recipe, processor), batch)
    assert int(count) == 7 + 2
    assert torch.isfinite(total)


def test_rows_that_the_two_would_not_read_alike_are_refused(distil):
    recipe = distil("max_encoder_length=16", "max_length=24")
    judge = objective_of(recipe).collator(load_processor(recipe))
    short, long = Example("say ab", "a"), Example("say " + "a" * 20, "a", "rows.jsonl:2")
    assert not judge.accepts_all
    fine, bad = judge.misfits([short, long])
    assert fine is None
    assert "rows.jsonl:2: the prompt has more than 16 encoder tokens" in str(bad)
    recipe = distil("connector={kind: resampler, num_latents: 2}", "max_length=24")
    (bad,) = objective_of(recipe).collator(load_processor(recipe)).misfits([long])
    assert "rows.jsonl:2: the prompt takes 25 of the 24 positions" in str(bad)


@pytest.mark.parametrize("change", ["distil={}", "distil={layers: 1}", "distil={hidden: 1, temperature: 2}"])
def test_passes_of_a_batch_give_its_loss(distil, change):
    own, processor, batch = made(distil(change), [*PAIRS, Example("say a", "aa")])
    model = build_model(own.recipe, processor)
    total, count = own.loss(model, batch)
    parts = [own.loss(model, part) for part in in_passes(batch, 3)]
    assert sum(int(number) for _, number in parts) == int(count) == 10
    torch.testing.assert_close(sum(part for part, _ in parts), total)
    assert sum(len(part[IDS]) for part in in_passes(batch, 3)) == 3


def test_the_reading_score_takes_the_continuation(distil):
    recipe = distil()
    own, processor = objective_of(recipe), load_processor(recipe)

    class Rows(list):
        lengths = [6, 7]  # noqa: RUF012

        def __getitems__(self, places):
            return [self[place] for place in places]

    (batch,) = reading_batches(Rows(PAIRS), own.collator(processor), 4)
    assert build_model(recipe, processor)(**batch).token_losses.shape == (7,)


@pytest.mark.filterwarnings("ignore::langbridge.train.reading.PlateauWarning")  # the tiny language model is random
@pytest.mark.parametrize(
    "changes",
    [
        ("distil.temperature=2",),
        ("distil={layers: 1}",),
        ("distil={hidden: 0.5}", "data.text=query", *SHORT),
        ("train.positions_per_pass=100", "train.gradient_accumulation_steps=2"),
    ],
)
def test_a_run_learns_and_goes_on_as_if_it_had_not_stopped(distil, tmp_path, changes, monkeypatch, stop_at):
    """Losses of the run that was killed after its sixth step are those of the whole one."""
    often = {"max_steps": 16, "save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 8}
    recipe = distil(
        "init=random",
        "train.reading_score_steps=8",
        *(f"train.{key}={value}" for key, value in often.items()),
        f"data.validation_path={tmp_path / 'held_out.jsonl'}",
        *changes,
    )

    def losses(folder):
        entries = json.loads((folder / "final/training_log.json").read_text())["history"]
        assert any("eval_loss" in entry for entry in entries)
        assert any("reading_score" in entry for entry in entries)
        return [entry["loss"] for entry in entries if "loss" in entry]

    train(recipe, tmp_path / "whole", progress=False)
    whole = losses(tmp_path / "whole")
    assert sum(whole[-4:]) < 0.9 * sum(whole[:4])
    from langbridge.train.trainer import BridgeTrainer

    original = BridgeTrainer.__init__

    def killed(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.add_callback(stop_at(6))

    monkeypatch.setattr(BridgeTrainer, "__init__", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "halves", progress=False)
    monkeypatch.undo()
    train(recipe, tmp_path / "halves", resume=True, progress=False)
    assert losses(tmp_path / "halves") == whole
    assert LangBridgeModel.from_pretrained(tmp_path / "halves/final").config.connector == recipe.connector


def test_held_out_text_is_measured_by_its_own_objective(distil, tmp_path):
    write_jsonl(tmp_path / "text.jsonl", [{"text": "ab" * n} for n in range(9, 17)])
    recipe = distil(
        f"data.validation={{unlabelled: {{path: {tmp_path / 'text.jsonl'}}}}}",
        "train.eval_strategy=steps", "train.eval_steps=2", "train.max_steps=2", *SHORT, "max_encoder_length=16",
    )  # fmt: skip
    log = json.loads((train(recipe, tmp_path / "run", progress=False) / "training_log.json").read_text())
    (entry,) = (entry for entry in log["history"] if "eval_loss" in entry)
    assert entry["eval_tokens"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lora={r: 4}", "lora: objective distil needs the language model as it is"),
        ("distil={layers: 0}", "distil.layers: expected greater than 0, got 0"),
        ("distil={layers: 1, hidden: 0}", "distil.hidden: got 0, but with layers"),
        ("distil={hidden_layers: [1]}", "distil.hidden_layers: has no effect"),
        ("distil={layers: 1, hidden_layers: [0, 2]}", r"distil.hidden_layers: got \[0, 2\], but only 1 run"),
        ("distil={temperature: 0}", "distil.temperature: expected greater than 0, got 0"),
        ("distil={weight: 1}", "distil.weight: unknown key"),
        ("train.fsdp=true", "distil.layers: a pass that ends early"),
    ],
)
def test_settings_that_cannot_be_are_named(distil, change, message):
    with pytest.raises(LangBridgeError, match=message):
        distil(*(["distil={layers: 1}"] if "fsdp" in change else []), change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("distil={layers: 2}", "distil.layers: got 2, but the language model has 2; expected fewer, or null for all"),
        ("distil={hidden: 1, hidden_layers: [3]}", r"distil.hidden_layers: got \[3\], but the language model has 2"),
    ],
)
def test_layers_that_the_language_model_has_not_are_named_before_it_is_loaded(distil, change, message):
    recipe = distil(change)
    with pytest.raises(LangBridgeError, match=message):
        objective_of(recipe).collator(load_processor(recipe))


@pytest.fixture
def prompts(tmp_path):
    """Prompts without answers, in a file."""
    write_jsonl(tmp_path / "prompts.jsonl", [{"question": f"say {'ab'[n % 2] * (n % 7 + 1)}"} for n in range(48)])
    return tmp_path / "prompts.jsonl"


@pytest.fixture
def answered(distil, prompts):
    return lambda *changes: distil(
        "distil.continuation=answer", f"data.path={prompts}", "data.text=question", "max_length=40",
        "train.max_steps=2", *changes,
    )  # fmt: skip


def test_the_answers_of_the_language_model_are_made_once(answered, tmp_path, monkeypatch):
    recipe, made_of, stopped = answered(), [], [True]
    original = answers._answered

    def watched(prompts, *rest):
        made_of.extend(prompts)
        if stopped and len(made_of) > 8:
            raise KeyboardInterrupt
        return original(prompts, *rest)

    monkeypatch.setattr(answers, "_answered", watched)
    with pytest.raises(KeyboardInterrupt):
        train(recipe.model_copy(update={"train": recipe.train.model_copy(update={"per_device_eval_batch_size": 8})}),
              tmp_path / "run", progress=False)  # fmt: skip
    (file,) = (tmp_path / "run").glob("answers-*.jsonl")
    first = file.read_text()
    assert len(first.splitlines()) == 8
    stopped.clear()
    made_of.clear()
    train(recipe, tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert file.read_text().startswith(first)
    assert len(made_of) == len(rows) - 8 == 14 - 8, "14 prompts are different, 8 were answered"
    # Alone, as its own text: what transformers writes for it.
    processor = load_processor(recipe)
    model = build_model(recipe, processor)
    for row in rows:
        ids = processor.tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
        new = model.language_model.generate(
            ids, do_sample=False, max_new_tokens=40 - 1 - ids.shape[1], pad_token_id=0, attention_mask=ids**0
        )
        assert row["answer"] == processor.tokenizer.decode(new[0, ids.shape[1] :], skip_special_tokens=True)
    made_of.clear()
    train(answered("max_length=39"), tmp_path / "run2", progress=False)
    (other,) = (tmp_path / "run2").glob("answers-*.jsonl")
    assert other.name != file.name, "answers of another length are other answers"


def test_answers_stand_where_targets_would(answered):
    recipe = answered()
    own, processor = objective_of(recipe), load_processor(recipe)
    collate = own.collator(processor)
    examples = [TextExample("say ab"), Example("say b", "never read")]
    before = collate(examples)
    assert taught(processor, before, 0) == "<s>say ab</s>", "as `show` has it, before there are any"
    collate.answers = {"say ab": "yes", "say b": "no"}
    batch = collate(examples)
    assert [taught(processor, batch, row) for row in (0, 1)] == ["<s>say abyes</s>", "<s>say bno</s>"]
    judge = objective_of(answered("distil.continuation=target", "data.text=null")).collator(processor)
    labelled = objective_of(answered("objective=labelled", "data.text=null")).collator(processor)
    assert judge.identity != labelled.identity, "they judge rows by other rules"


def test_prompts_in_a_stream_are_refused(answered):
    with pytest.raises(LangBridgeError, match=r"data.streaming: with distil.continuation answer"):
        answered("data.streaming=true")
