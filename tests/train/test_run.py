"""A run from the recipe to the folder, on a tiny bridge."""

import dataclasses
import json
import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel, MT5EncoderModel

import langbridge
from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.data.stream import RowStream
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl
from langbridge.model import build_bridge
from langbridge.model.encoders import load_config, load_encoder
from langbridge.model.reading import ReadingScore
from langbridge.train import Recipe, loop, train
from langbridge.train.plan import plan
from langbridge.train.prepare import build_model, load_processor, reads_new_rows, some_texts
from langbridge.train.reading import PlateauWarning


def test_a_run_learns_and_writes_a_bridge_that_loads(recipe, tmp_path):
    final = train(recipe, tmp_path / "run", progress=False)
    assert final == tmp_path / "run" / "final"
    log = json.loads((final / "training_log.json").read_text())
    losses = [entry["loss"] for entry in log["history"] if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    assert log["start"]["explained"] > 0
    assert Recipe.load(final / "recipe.yaml") == recipe
    model = LangBridgeModel.from_pretrained(final)
    processor = LangBridgeProcessor.from_pretrained(final)
    inputs = processor(["say aaa"], return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[0] == 1
    assert not list((tmp_path / "run").glob("*.part"))


def test_two_runs_are_the_same(recipe, tmp_path):
    first, second = (train(recipe, tmp_path / name, progress=False) for name in ("a", "b"))
    histories = [json.loads((folder / "training_log.json").read_text())["history"] for folder in (first, second)]
    assert [h.get("loss") for h in histories[0]] == [h.get("loss") for h in histories[1]]


def test_the_language_model_never_moves(recipe, tmp_path, base_folders):
    from transformers import AutoModelForCausalLM

    final = train(recipe, tmp_path / "run", progress=False)
    before = AutoModelForCausalLM.from_pretrained(base_folders[1]).state_dict()
    after = LangBridgeModel.from_pretrained(final).language_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bad_data_stops_before_any_model_is_loaded(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("langbridge.train.prepare.build_bridge", lambda *a, **k: pytest.fail("loaded"))
    (tmp_path / "train.jsonl").write_text('{"query": "x"}\n')
    with pytest.raises(LangBridgeError, match=r"train\.jsonl, row 1.*'response'"):
        train(recipe, tmp_path / "run", progress=False)


def test_new_rows_are_trained_where_prompts_hold_white_space(load, tmp_path):
    """Newlines and tabs are tokens that were added to the encoder's tokenizer: those that occur are learned, alone."""
    rows = [{"query": f"say\n{'ab'[n % 2]}\tnow", "response": "ab"[n % 2] * 2} for n in range(16)]
    write_jsonl(tmp_path / "white.jsonl", rows)
    recipe = load(f"data.path={tmp_path / 'white.jsonl'}", "train.max_steps=3")
    final = train(recipe, tmp_path / "run", progress=False)
    processor = LangBridgeProcessor.from_pretrained(final)
    model = LangBridgeModel.from_pretrained(final)
    assert model.config.train_new_rows
    fresh = build_bridge(**recipe.to_bridge_arguments())[0]
    added = processor.encoder_tokenizer.convert_ids_to_tokens(processor.new_token_ids)
    moved = {
        token
        for token, old, new in zip(added, fresh.new_rows, model.new_rows, strict=True)
        if not torch.equal(old, new)
    }
    assert moved == {"\n", "\t"}
    assert all(
        torch.equal(old, new)
        for old, new in zip(fresh.encoder.state_dict().values(), model.encoder.state_dict().values(), strict=True)
    ), "another row of the table, or another weight of the frozen encoder, moved"
    plain = train(load("train.max_steps=3", "data.input=response"), tmp_path / "plain", progress=False)
    assert not LangBridgeModel.from_pretrained(plain).config.train_new_rows, "no prompt holds any of them"


def test_processes_agree_on_what_a_stream_begins_with(load, tmp_path, monkeypatch):
    """White space in one row of a stream is met by one process of two, and both must train the same weights; what the
    ridge start is fitted to must be the same texts, or sharded weights would be pieces of different connectors."""
    rows = [{"query": f"say{chr(10) if n == 5 else ' '}{n}", "response": "a"} for n in range(16)]
    write_jsonl(tmp_path / "white.jsonl", rows)
    recipe = load(f"data.path={tmp_path / 'white.jsonl'}", "data.streaming=true", "train.max_steps=3")
    processor = load_processor(recipe)

    def stream(rank):
        return RowStream(recipe.data, regime="labelled", seed=0, rank=rank, world_size=2)

    alone = [some_texts(stream(rank), 16, 0) for rank in range(2)]
    assert sorted(text for texts in alone for text in texts) == sorted(row["query"] for row in rows)
    monkeypatch.setattr("langbridge.train.prepare.gather_object", lambda mine: [*alone[0], *alone[1]])
    for rank in range(2):
        assert reads_new_rows(processor, stream(rank))
        assert some_texts(stream(rank), 10, 0) == (alone[0] + alone[1])[:10]


def test_a_trained_encoder_is_in_the_final_folder(load, base_folders, tmp_path):
    recipe = load("freeze_encoder=false", "dtype=bfloat16", "train.encoder_learning_rate=1e-3", "train.max_steps=4")
    final = train(recipe, tmp_path / "run", progress=False)
    model = LangBridgeModel.from_pretrained(final)
    saved = load_file(final / "model.safetensors")
    trained = {name: tensor for name, tensor in saved.items() if name.startswith("encoder.")}
    assert trained
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}, "small updates would be lost"
    before = build_bridge(*base_folders)[0].encoder.state_dict()
    moved = [name for name, tensor in model.encoder.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(moved) > len(before) / 2


@pytest.mark.parametrize("column", [None, "response"], ids=["pairs", "texts"])
def test_a_plain_language_model_is_an_ordinary_folder(load, recipe_file, base_folders, tmp_path, column):
    recipe_file.write_text(recipe_file.read_text().replace("encoder: ", "# "))
    changes = ["regime=lm_only", "template=Q: {prompt} A:", "train.max_steps=6", "train.reading_score_steps=50"]
    recipe = load(*changes, *([] if column is None else [f"data.text={column}"]))
    final = train(recipe, tmp_path / "run", progress=False)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(final), AutoTokenizer.from_pretrained(final)
    history = json.loads((final / "training_log.json").read_text())["history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < losses[0]
    text = "Q: say aaa A:aaa" if column is None else "aaa"
    ids = torch.tensor([[1, *tokenizer(text, add_special_tokens=False)["input_ids"], 2]])
    base = AutoModelForCausalLM.from_pretrained(base_folders[1])
    labels = ids.clone()
    labels[:, :-4] = -100
    with torch.no_grad():
        assert model(ids, labels=labels).loss < base(ids, labels=labels).loss
    assert "baseline" in (final / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::langbridge.train.reading.PlateauWarning")  # of three rows
def test_the_final_folder_has_a_card_with_its_curves(load, tmp_path):
    changes = ("train.max_steps=4", "train.reading_score_steps=2", "train.report_to=tensorboard")
    final = train(load(*changes), tmp_path / "run", progress=False)
    card = (final / "README.md").read_text()
    for part in ("`encoder`", "`language_model`", "train.jsonl", "![", "curves.png", "reading score", "4 updates of 8"):
        assert part in card
    assert (final / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    run = json.loads((final / "run.json").read_text())
    assert run["data"]["rows"] == 61, "three of 64 rows were kept apart for the reading score"


@pytest.mark.filterwarnings("ignore::langbridge.train.reading.PlateauWarning")  # of three rows
def test_what_the_console_says(load, tmp_path, capsys):
    train(load("train.max_steps=3", "train.reading_score_steps=2"), tmp_path / "run")
    said = capsys.readouterr().err
    assert "61 rows to train on, 3 more kept apart for the reading score" in said
    assert re.search(r"step 0/3  reading -?\d\.\d{3} ± \d\.\d{3} before training", said)
    line = r"step 3/3  loss \d+\.\d{4}  reading -?\d+\.\d{3}  lr 1\.0e-02  \d+ tokens/s  0 s left  \d\.\d GiB"
    assert re.search(line, said)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_left_out_are_told_of_training_and_validation(load, tmp_path, capsys, streaming):
    with (tmp_path / "train.jsonl").open("a") as training, (tmp_path / "held_out.jsonl").open("a") as held_out:
        training.write("{\n" * 3)
        held_out.write('{"query": "say a", "response": ""}\n')
    changes = (f"data.streaming={str(streaming).lower()}", "data.on_bad_row=skip", "train.max_steps=10",
               f"data.validation_path={tmp_path / 'held_out.jsonl'}")  # fmt: skip
    final = train(load(*changes), tmp_path / "run")  # into a second epoch
    said = capsys.readouterr().err
    told = "streamed to the end of the training" if streaming else "64 rows to train on"
    assert f"{told}; 3 rows left out (3 broken JSON)" in said
    assert said.count("row 65: broken JSON") == 1
    assert "12 labelled rows to validate on; 1 rows left out (1 empty text)" in said
    assert f"{tmp_path / 'held_out.jsonl'}, row 13" in said
    card = (final / "README.md").read_text()
    assert "3 rows left out (3 broken JSON)" in card
    assert "- `held_out.jsonl`: 12 labelled rows to validate on; 1 rows left out (1 empty text)" in card


@pytest.mark.parametrize("use_cpu", [True, False])
def test_mixed_precision_trains_on_a_processor_too(load, tmp_path, use_cpu):
    recipe = load("train.bf16=true", f"train.use_cpu={use_cpu}", "dtype=bfloat16", "train.max_steps=6")
    final = train(recipe, tmp_path / "run", progress=False)
    losses = [e["loss"] for e in json.loads((final / "training_log.json").read_text())["history"] if "loss" in e]
    assert losses[-1] < losses[0]
    assert {tensor.dtype for tensor in load_file(final / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize(("saved", "fast"), [("bfloat16", True), ("bfloat16", False), ("float32", True)])
def test_the_frozen_models_are_as_saved_where_the_machine_is_fast_in_it(
    load, base_folders, tmp_path, monkeypatch, saved, fast
):
    from langbridge.model import devices

    monkeypatch.setattr(devices, "fast_in_bfloat16", lambda _: fast)
    for name, folder, kind in zip(("e", "l"), base_folders, (MT5EncoderModel, AutoModelForCausalLM), strict=True):
        shutil.copytree(folder, tmp_path / name)
        kind.from_pretrained(folder, dtype=getattr(torch, saved)).save_pretrained(tmp_path / name)
    recipe = load("dtype=auto", f"encoder={tmp_path / 'e'}", f"language_model={tmp_path / 'l'}")
    model = build_model(recipe, load_processor(recipe))
    wanted = torch.bfloat16 if fast and saved == "bfloat16" else torch.float32
    assert (model.encoder.dtype, model.language_model.dtype) == (wanted, wanted)
    assert {parameter.dtype for parameter in model.connector.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:.*was cut")
def test_an_encoder_of_few_positions_reads_what_it_can(load, base_folders, tmp_path, capsys):
    """A limit in the recipe above the encoder's own, crashes neither plan nor run, and is told."""
    shutil.copytree(base_folders[0], tmp_path / "bert")
    config = BertConfig(vocab_size=128, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=12)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "bert")
    write_jsonl(tmp_path / "long.jsonl", [{"query": "say " + "ab" * n, "response": "a"} for n in range(1, 17)])
    recipe = load(f"encoder={tmp_path / 'bert'}", f"data.path={tmp_path / 'long.jsonl'}", "train.max_steps=2")
    assert plan(recipe).encoder_tokens == 2 * 8 * 12
    final = train(recipe, tmp_path / "run")
    said = capsys.readouterr().err
    assert "max_encoder_length is 32, but the encoder reads 12 tokens at most" in said
    # "say " and its end mark are five tokens: 13 of the 16 prompts have more than seven to come.
    assert "cut to fit, repeats counted: 13 prompts" in said
    assert "13 prompts" in (final / "README.md").read_text()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_sharding_without_accelerators_is_refused(load, tmp_path):
    with pytest.raises(LangBridgeError, match=r"train\.fsdp: needs GPUs"):
        train(load("train.fsdp=true"), tmp_path / "run", progress=False)


def test_the_closed_form_start_runs_where_the_training_does(load, tmp_path, monkeypatch):
    class Started(Exception):
        pass

    def start(model, *_):
        raise Started({parameter.device.type for parameter in model.parameters()})

    monkeypatch.setattr("langbridge.train.run.device_of", lambda recipe: torch.device("meta"))
    monkeypatch.setattr("langbridge.train.run.start_connector", start)
    with pytest.raises(Started, match=r"\{'meta'\}"):
        train(load(), tmp_path / "run", progress=False)


def test_a_trained_encoder_starts_from_the_weights_as_published(load, base_folders, tmp_path):
    """In bfloat16 the language model alone: also where a bridge with a frozen encoder is begun with."""
    published = load_encoder(base_folders[0], load_config(base_folders[0], "encoder")).state_dict()
    begun = train(load("train.max_steps=1"), tmp_path / "run", progress=False)
    for changes in ((), (f"init={begun}",)):
        recipe = load("dtype=bfloat16", "freeze_encoder=false", *changes)
        bridge = build_model(recipe, load_processor(recipe))
        assert bridge.language_model.dtype == torch.bfloat16
        found = bridge.encoder.state_dict()
        inner = [name for name in published if "block" in name]  # the table has grown by its new rows
        assert inner
        assert all(torch.equal(found[name], published[name]) for name in inner)
    frozen = load("dtype=bfloat16")
    assert build_model(frozen, load_processor(frozen)).encoder.dtype == torch.bfloat16


def test_processes_wait_as_long_as_the_recipe_says(load, tmp_path, monkeypatch):
    class Made(Exception):
        pass

    def state(**options):
        raise Made(options["timeout"])

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("langbridge.train.run.PartialState", state)
    with pytest.raises(Made, match="0:01:30"):
        train(load("train.ddp_timeout=90"), tmp_path / "run", progress=False)


def test_settings_that_the_machine_does_not_have_are_one_error(load, tmp_path):
    with pytest.raises(LangBridgeError, match=r"train: .*wandb"):
        train(load("train.report_to=wandb"), tmp_path / "run", progress=False)
    (tmp_path / "few.jsonl").write_text('{"query": "a", "response": "b"}\n')
    with pytest.raises(LangBridgeError, match="max_steps: missing"):
        load("data.streaming=true")


MINIATURE = Path(langbridge.__file__).parent / "miniature" / "models"


@pytest.mark.parametrize(
    ("regime", "init", "reads"),
    [
        ("labelled", "random", False),
        ("labelled", "ridge", True),
        pytest.param("unlabelled", "random", False, marks=pytest.mark.slow),
        pytest.param("unlabelled", "ridge", True, marks=pytest.mark.slow),
    ],
)
def test_the_reading_score_tells_a_reader_from_one_that_does_not_read(load, tmp_path, regime, init, reads):
    """On the shipped miniature, before it had time to learn: a random connector says nothing, a ridge start does."""
    from langbridge.miniature.dataset import training_rows

    rows = [{**row, "text": f"{row['query']} {row['response']}"} for row in training_rows(328)]
    write_jsonl(tmp_path / "world.jsonl", rows[:200])
    write_jsonl(tmp_path / "held_out.jsonl", rows[200:])
    recipe = load(
        f"encoder={MINIATURE / 'encoder'}", f"language_model={MINIATURE / 'language_model'}",
        f"data.path={tmp_path / 'world.jsonl'}", f"data.validation_path={tmp_path / 'held_out.jsonl'}",
        f"init={init}", f"regime={regime}", "freeze_encoder=true",
        "max_encoder_length=128", "min_encoder_length=8", "min_lm_length=8", "max_length=256", "ridge.texts=200",
        "train.learning_rate=1e-5", "train.max_steps=1", "train.reading_score_steps=1",
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        final = train(recipe, tmp_path / "run", progress=False)
    history = json.loads((final / "training_log.json").read_text())["history"]
    scores = [entry["reading_score"] for entry in history if "reading_score" in entry]
    errors = [entry["reading_score_error"] for entry in history if "reading_score" in entry]
    warned = [str(entry.message) for entry in caught if issubclass(entry.category, PlateauWarning)]
    assert len(scores) == 2
    if reads:
        assert min(scores) > 1
        assert not warned
    else:
        assert all(abs(score) < 2 * error for score, error in zip(scores, errors, strict=True))
        (message,) = warned
        assert "does not read the prompt" in message
        assert "learning rate too small" in message
        assert "random start" in message


def test_the_final_bridge_is_the_one_that_reads_best(load, tmp_path, monkeypatch):
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.2])
    score = ReadingScore(score=0.0, error=0.01, own=1.0, other=1.0, rows=8)
    monkeypatch.setattr(loop, "reading_score", lambda *_: dataclasses.replace(score, score=next(scores)))
    changes = ["train.reading_score_steps=1", "train.reading_score_patience=2", "train.max_steps=9"]
    final = train(load(*changes), tmp_path / "run", progress=False)
    steps = [entry["step"] for entry in json.loads((final / "training_log.json").read_text())["history"]]
    assert max(steps) == 3  # two scores behind the best, which is the first after the start
    best, last = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run" / "checkpoint-1", final))
    assert all(torch.equal(best[name], last[name]) for name in best)


def test_the_final_bridge_is_the_start_where_that_reads_best(load, tmp_path, monkeypatch, capsys):
    """Also of a run that is killed before its first other checkpoint, and goes on."""
    scores = iter([0.9, 0.5, KeyboardInterrupt, 0.5, 0.4, 0.9])
    score = ReadingScore(score=0.0, error=0.01, own=1.0, other=1.0, rows=8)

    def next_score(*_):
        if isinstance(found := next(scores), type):
            raise found
        return dataclasses.replace(score, score=found)

    monkeypatch.setattr(loop, "reading_score", next_score)
    changes = ["train.reading_score_steps=1", "train.reading_score_patience=2", "train.max_steps=9"]
    with pytest.raises(KeyboardInterrupt):
        train(load(*changes), tmp_path / "run")
    assert "going on from" not in capsys.readouterr().err
    final = train(load(*changes), tmp_path / "run", resume=True)
    told = capsys.readouterr().err
    assert "checkpoint-0" in told
    assert "0.900, and so the final bridge, is that of the start: training has cost reading" in told
    log = json.loads((final / "training_log.json").read_text())["history"]
    assert [entry["step"] for entry in log if "reading_score" in entry] == [0, 1, 2]
    start = train(load("train.max_steps=0", "train.reading_score_steps=1"), tmp_path / "start", progress=False)
    first, last = (load_file(folder / "model.safetensors") for folder in (start, final))
    assert all(torch.equal(first[name], last[name]) for name in first)
    card = (final / "README.md").read_text()
    assert "a fitted connector" in card
    assert "2 updates of 8 rows" in card
    assert "What is kept is the start, the best. The start was fitted to" in card


def test_patience_may_come_with_a_run_that_goes_on(load, tmp_path, monkeypatch):
    """From its last step, where no score is due, and from before it, where the first is no start's."""
    score = ReadingScore(score=0.5, error=0.01, own=1.0, other=1.0, rows=8)
    monkeypatch.setattr(loop, "reading_score", lambda *_: score)
    kept = [f"data.validation_path={tmp_path / 'held_out.jsonl'}", "train.save_strategy=steps", "train.save_steps=2"]
    changes = [*kept, "train.reading_score_steps=1", "train.reading_score_patience=2"]
    for steps in (2, 4):
        out = tmp_path / f"run-{steps}"
        train(load(*kept, "train.reading_score_steps=0", "train.max_steps=2"), out, progress=False)
        before = (out / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns
        final = train(load(*changes, f"train.max_steps={steps}"), out, resume=True, progress=False)
        assert final.is_dir()
        assert (out / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("objective=plain",), "the plain language model has no reading score"),
        (("data.streaming=true", "train.max_steps=2"), r"of a stream no rows .*give held-out ones"),
        (("data.path=few.jsonl",), r"12 rows are too few .*takes 40; give held-out ones"),
        (("data.validation_path=one.jsonl",), "the validation set has a single row"),
    ],
)
def test_patience_without_a_score_is_refused(load, recipe_file, tmp_path, changes, message):
    rows = (tmp_path / "held_out.jsonl").read_text()
    (tmp_path / "few.jsonl").write_text(rows)
    (tmp_path / "one.jsonl").write_text(rows.splitlines()[0])
    if "objective=plain" in changes:
        recipe_file.write_text(recipe_file.read_text().replace("encoder: ", "# "))
    recipe = load("train.reading_score_steps=1", "train.reading_score_patience=2", *changes)
    with pytest.raises(LangBridgeError, match=rf"train\.reading_score_patience: {message}"):
        train(recipe, tmp_path / "run", progress=False)


def test_an_upload_that_fails_leaves_the_bridge_and_says_where(load, tmp_path, monkeypatch):
    asked = []

    def unreachable(_, name, **options):
        asked.append(name)
        raise RuntimeError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", unreachable)
    for module in ("train.final", "model.saving"):
        monkeypatch.setattr(f"langbridge.{module}.is_hub_id", lambda _: True)
    out = tmp_path / "lm+encoder"  # as a run's own folder is named
    message = r"no route to host\. The bridge is whole in .*final; .*: hf upload lm-encoder .*final --private"
    with pytest.raises(LangBridgeError, match=message):
        train(load("train.push_to_hub=true", "train.hub_private_repo=true", "train.max_steps=1"), out, progress=False)
    assert asked == ["lm-encoder"]
    assert (out / "final" / "model.safetensors").is_file()
    with pytest.raises(LangBridgeError, match=r"train\.hub_model_id: the hub does not take 'a b'"):
        train(load("train.push_to_hub=true", "train.hub_model_id=a b"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists(), "before the training"


def test_what_nobody_else_could_load_is_not_uploaded(load, tmp_path):
    """The final folder names its bases, and these are folders here."""
    for changes, role in (((), "encoder"), (("freeze_encoder=false",), "language_model")):
        with pytest.raises(LangBridgeError, match=rf"train\.push_to_hub: {role}: '.*' is only here.*langbridge export"):
            train(load("train.push_to_hub=true", *changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists(), "before the training"


def test_what_is_uploaded_says_nothing_of_this_machine(load, tmp_path, monkeypatch):
    """Of an encoder that was trained the weights are there, and of a language model with adapters merged in too."""
    pytest.importorskip("peft")
    sent = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: SimpleNamespace(repo_id="me/mine"))
    for name in ("upload_folder", "upload_file"):
        monkeypatch.setattr(f"huggingface_hub.HfApi.{name}", lambda _, _name=name, **given: sent.append((_name, given)))
    recipe = load("train.push_to_hub=true", "freeze_encoder=false", "lora.r=2", "train.max_steps=1")
    final = train(recipe, tmp_path / "run", progress=False)
    (first, folder), (second, file) = sent
    assert (first, folder["folder_path"], folder["ignore_patterns"]) == ("upload_folder", str(final), ["config.json"])
    assert (second, file["path_in_repo"]) == ("upload_file", "config.json")
    assert str(tmp_path.parent.parent) not in file["path_or_fileobj"].decode()
    there = shutil.copytree(final, tmp_path / "there")
    (there / "config.json").write_bytes(file["path_or_fileobj"])
    assert LangBridgeModel.from_pretrained(there).config.language_model_base["id"] is None


def test_a_run_that_stops_on_the_plateau_can_be_gone_on_with(load, tmp_path):
    changes = ["train.reading_score_steps=1", "train.plateau_patience=2", "train.plateau_score=100"]
    with pytest.warns(PlateauWarning), pytest.raises(LangBridgeError, match=r"stopped at step 2: .*--resume"):
        train(load(*changes, "train.stop_on_plateau=true"), tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "checkpoint-2").is_dir()
    assert not (tmp_path / "run" / "final").exists()
    with pytest.warns(PlateauWarning):
        assert train(load(*changes, "train.max_steps=4"), tmp_path / "run", resume=True, progress=False).is_dir()


@pytest.mark.filterwarnings("ignore::langbridge.train.reading.PlateauWarning")  # after four updates
def test_text_noise_is_for_the_rows_that_are_learned_from(load, tmp_path, monkeypatch):
    """The reading score and the validation loss see the text whole, and so does whoever asks the bridge."""
    read = {True: [], False: []}
    process = LangBridgeProcessor.__call__

    def spied(self, texts, **options):
        read[options.get("own_prompts") is not None].extend(options.get("own_prompts") or texts)
        return process(self, texts, **options)

    monkeypatch.setattr(LangBridgeProcessor, "__call__", spied)
    noise = ("template=<soft>{prompt}</soft> {prompt}:", "text_noise.drop=0.5", "text_noise.scramble=0.5")
    others = (f"data.validation_path={tmp_path / 'held_out.jsonl'}", "train.eval_strategy=steps", "train.eval_steps=2")
    changes = (*noise, *others, "train.reading_score_steps=2", "train.max_steps=4")
    final = train(load(*changes), tmp_path / "run", progress=False)
    assert len(read[True]) >= 4 * 8
    assert not any(text.startswith("say ") for text in read[True])
    assert read[False]
    assert all(text.startswith("say ") for text in read[False])
    assert "drop" not in (final / "processor_config.json").read_text()
    again = train(load(*changes), tmp_path / "again", progress=False)
    assert torch.equal(*(load_file(one / "model.safetensors")["connector.linear.weight"] for one in (final, again)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ((), r"text_noise: has no effect, because template '\{prompt\}' has the prompt read by the encoder alone"),
        (("template=chat",), r"text_noise: has no effect, because template 'chat'"),
        (("template=<soft>{prompt}</soft>{prompt}", "objective=distil"), "text_noise: objective distil has no use"),
    ],
)
def test_text_noise_without_a_text_is_refused(load, changes, message):
    with pytest.raises(LangBridgeError, match=message):
        load("text_noise.drop=0.5", *changes)
