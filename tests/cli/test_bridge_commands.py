"""The commands that open a bridge, on a tiny one: what they print, write and refuse."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.cli.show import Stretch, _readable, paint, stretches
from langbridge.serve.engine import Decoding, Request
from langbridge.serve.load import bridge_engine

PROMPTS = ["What is 12 + 30, please?", "২৭", "c d"]


@pytest.fixture(scope="module")
def answers(bridge_folder: Path) -> list[str]:
    model = LangBridgeModel.from_pretrained(bridge_folder)
    engine = bridge_engine(model, LangBridgeProcessor.from_pretrained(bridge_folder))
    return [one.text.strip() for one in engine.answers(PROMPTS, Decoding(6))]


@pytest.fixture
def recipe(base_folders: tuple[Path, Path], tmp_path: Path) -> Path:
    encoder, language_model = base_folders
    (tmp_path / "rows.jsonl").write_text(
        '{"query": "2+2?", "response": "4"}\n{"query": "What is 3 + 4?", "response": "It is 7"}\n'
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"encoder: {encoder}\nlanguage_model: {language_model}\n"
        f'template: "Q: {{prompt}}"\ndata: {{path: {tmp_path}/rows.jsonl}}\n'
    )
    return path


def test_generate_answers_prompts_in_their_order(command, bridge_folder: Path, answers: list[str]) -> None:
    code, out, err = command("generate", bridge_folder, *PROMPTS, "--max-new-tokens", 6, "--batch-size", 2)
    assert (code, err) == (0, ""), "no chatter, and no progress bar where nobody watches"
    assert out == "\n\n".join(answers) + "\n"


def test_generate_keeps_the_rows_of_a_file(command, bridge_folder: Path, answers: list[str], tmp_path) -> None:
    rows = [{"id": index, "question": prompt, "deep": {"a": [1]}} for index, prompt in enumerate(PROMPTS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["generate", bridge_folder, "--input", tmp_path / "in.jsonl", "--field", "question"]
    expected = [{**row, "output": answer} for row, answer in zip(rows, answers, strict=True)]
    out = tmp_path / "new" / "out.jsonl"
    assert command(*arguments, "--max-new-tokens", 6, "--out", out) == (0, "", "")
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == expected
    _, printed, _ = command(*arguments, "--max-new-tokens", 6)
    assert [json.loads(line) for line in printed.splitlines()] == expected


def test_an_encoder_that_marks_languages_is_told_them(
    command, marking_bridge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LangBridgeModel.from_pretrained(marking_bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(marking_bridge_folder)
    prompt, limit = "What is 12 + 30?", ("--max-new-tokens", 6)

    def answer(language: str | None) -> str:
        (found,) = bridge_engine(model, processor).answers([Request(prompt, language=language)], Decoding(6))
        return found.text.strip()

    english, swahili = answer(None), answer("sw")
    assert english != swahili
    arguments = ["generate", marking_bridge_folder, prompt, *limit]
    assert command(*arguments)[1] == f"{english}\n"
    assert command(*arguments, "--source-language", "sw")[1] == f"{swahili}\n"
    rows = [{"prompt": prompt, "lang": "swh_Latn"}, {"prompt": prompt, "lang": "en"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [
        "generate",
        marking_bridge_folder,
        "--input",
        tmp_path / "in.jsonl",
        *limit,
        "--language-field",
        "lang",
    ]
    _, out, _ = command(*arguments)
    assert [json.loads(line)["output"] for line in out.splitlines()] == [swahili, english]
    monkeypatch.setattr(sys, "stdin", io.StringIO(prompt))
    assert command("chat", marking_bridge_folder, *limit, "--source-language", "sw")[1].strip() == swahili
    code, _, err = command("generate", marking_bridge_folder, prompt, *limit, "--source-language", "tlh")
    assert (code, "'tlh'" in err) == (2, True)
    assert command(*arguments, "--source-language", "sw")[0] == 2
    _, out, _ = command("analyze", "soft-prompts", marking_bridge_folder, prompt, "--source-language", "sw")
    assert "swh_Latn" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "ray"), "--engine ray: needs rows with --input, and --out, beside which it keeps what is done"),
        (("--workers", 2), "--workers: goes with --engine ray"),
    ],
)
def test_generate_refuses_half_of_what_ray_needs(command, bridge_folder: Path, options: tuple, said: str) -> None:
    assert command("generate", bridge_folder, "b", *options) == (2, "", f"langbridge: {said}\n")


def test_generate_says_how_to_install_ray(command, bridge_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "langbridge.serve.ray", raising=False)
    (tmp_path / "rows.txt").write_text("b\n")
    line = ("--input", tmp_path / "rows.txt", "--field", "text", "--out", tmp_path / "out.jsonl", "--engine", "ray")
    said = "langbridge: --engine ray: Ray is not installed; pip install 'langbridge[ray]'\n"
    assert command("generate", bridge_folder, *line) == (2, "", said)


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("in.tsv", f"question\tn\n{PROMPTS[0]}\t1\n", "question"),
        ("in.json", json.dumps([{"question": PROMPTS[0], "n": 1}], indent=1), "question"),
        ("in.txt", PROMPTS[0] + "\n", "text"),
    ],
)
def test_generate_reads_what_training_reads(
    command, bridge_folder: Path, answers: list[str], tmp_path: Path, name: str, content: str, field: str
) -> None:
    (tmp_path / name).write_text(content)
    arguments = ["--field", field, "--max-new-tokens", 6]
    code, printed, err = command("generate", bridge_folder, "--input", tmp_path / name, *arguments)
    assert (code, err) == (0, "")
    row = json.loads(printed)
    assert (row[field], row["output"]) == (PROMPTS[0], answers[0])


def test_rows_that_are_no_json_are_refused_before_they_are_answered(command, bridge_folder: Path, tmp_path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"prompt": ["a"], "picture": [b"\x89PNG"]})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    code, _, err = command("generate", bridge_folder, "--input", tmp_path / "in.parquet")
    assert code == 2
    assert "in.parquet, row 1: cannot be written as JSON beside its answer" in err


def test_chat_answers_every_line_and_ends_with_the_input(
    command, bridge_folder: Path, answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(PROMPTS[0] + "\n\n" + PROMPTS[2]))
    code, out, err = command("chat", bridge_folder, "--max-new-tokens", 6)
    assert (code, err) == (0, "")
    assert [line.strip() for line in out.splitlines() if line.strip()] == [answers[0], answers[2]]


def test_chat_keeps_a_conversation_where_the_template_has_turns(
    command, chat_bridge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LangBridgeModel.from_pretrained(chat_bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(chat_bridge_folder)

    def answers(*lines: str) -> list[str]:
        messages: list[dict[str, str]] = []
        for line in lines:
            messages.append({"role": "user", "content": line})
            inputs = processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True
            )
            written = model.generate(**inputs, max_new_tokens=6, do_sample=False)
            answer = processor.decode(written[0, inputs["input_ids"].shape[1] :]).strip()
            messages.append({"role": "assistant", "content": answer})
        return [message["content"] for message in messages if message["role"] == "assistant"]

    def talk(*lines: str, new_tokens: int = 6) -> tuple[list[str], str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        code, out, err = command("chat", chat_bridge_folder, "--max-new-tokens", new_tokens)
        assert code == 0
        return [line.strip() for line in out.splitlines()], err

    first, second = answers(PROMPTS[0], PROMPTS[2])
    (alone,) = answers(PROMPTS[2])
    assert second != alone, "the second line is answered after the first"
    assert talk(PROMPTS[0], PROMPTS[2]) == ([first, second], "")
    assert talk(PROMPTS[0], "/new", PROMPTS[2]) == ([first, alone], "")
    # With 256 positions there is room for the newest turns only.
    long = "x" * 100
    said, err = talk(long, long, PROMPTS[2])
    assert len(said) == 3
    assert "no room for all of this conversation: its oldest turn is forgotten" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * 300))
    code, _, err = command("chat", chat_bridge_folder)
    assert (code, "shorten it" in err) == (2, True)


def test_an_exported_bridge_answers_alike(command, bridge_folder: Path, answers: list[str], tmp_path: Path) -> None:
    out = tmp_path / "merged"
    assert command("export", bridge_folder, "--out", out)[:2] == (0, f"{out}\n")
    assert command("generate", out, PROMPTS[0], "--max-new-tokens", 6)[1] == answers[0] + "\n"


def test_show_prints_what_each_model_reads_and_what_is_trained(command, recipe: Path) -> None:
    code, out, err = command("show", recipe, "--rows", 2)
    assert (code, err) == (0, "")
    assert "2 rows in" in out
    assert "row 3" not in out
    first, second = out.split("\nrow ")[1:]
    # "Q: 2+2?" and its end are 8 tokens; the longer row has 18, so 10 places are padding.
    assert "encoder, 8 read, 10 padding\n    Q : ▁ 2 + 2 ? </s> [padding x 10]" in first
    assert "[soft prompt x 8] [end] «4 </s>»" in first
    assert "[soft prompt x 18] [end] «I t ▁ i s ▁ 7 </s>»" in second
    assert "\x1b" not in out, "no colours in a pipe"


def test_show_reads_no_more_of_a_stream_than_it_shows(command, recipe: Path, tmp_path: Path) -> None:
    with (tmp_path / "rows.jsonl").open("a") as rows:
        rows.write("{broken\n")
    _, whole, _ = command("show", recipe, "--rows", 2, "--set", "data.on_bad_row=skip")
    code, out, err = command("show", recipe, "--rows", 2, "--set", "data.streaming=true", "--set", "train.max_steps=1")
    assert (code, err) == (0, "")
    assert out.startswith("2 rows streamed from rows.jsonl, 0 skipped; «trained» tokens")
    assert out.split("\nrow ")[1:] == whole.split("\nrow ")[1:], "the same batch, in the order of the file"


def test_show_shows_text_that_the_language_model_reads_itself(command, recipe: Path) -> None:
    _, out, _ = command("show", recipe, "--rows", 1, "--set", "template_in=lm")
    assert "    2 + 2 ? </s>\n" in out, "the encoder reads the prompt alone"
    assert "<s> Q : ▁ [soft prompt x 5] [end] «4 </s>»" in out


def test_show_shows_all_that_the_encoder_reads_of_a_row(command, recipe: Path) -> None:
    template = "template=<soft>{prompt}</soft>so<soft>{prompt}!</soft>"
    _, out, _ = command("show", recipe, "--rows", 2, "--set", template)
    first, second = out.split("\nrow ")[1:]
    assert "encoder, source 1 of 2, 5 read, 11 padding\n    2 + 2 ? </s>" in first
    assert "encoder, source 2 of 2, 6 read, 10 padding\n    2 + 2 ? ! </s>" in first
    assert "encoder, source 2 of 2, 16 read\n" in second


def test_show_shows_what_a_teacher_reads(command, recipe: Path) -> None:
    _, out, _ = command("show", recipe, "--rows", 1, "--set", "objective=distil")
    assert "  teacher, 10 read\n    <s> Q : ▁ 2 + 2 ? 4 </s>\n" in out


def test_tokens_of_bytes_are_shown_as_their_text() -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw.model = models.BPE({token: i for i, token in enumerate([*alphabet, "Ã©"])}, [("Ã", "©")])
    raw.add_special_tokens([AddedToken("<｜end｜>", special=True)])  # as DeepSeek's, whose bars are no bytes
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    ids = tokenizer("é –\n<｜end｜>")["input_ids"]
    assert _readable(tokenizer, [*ids, len(tokenizer)]) == [
        "é", "▁", "<0xE2>", "<0x80>", "<0x93>", "⏎", "<｜end｜>", "<none>"
    ]  # fmt: skip


def test_tokens_are_grouped_and_painted() -> None:
    grouped = stretches(["<s>", "x", "x", "4", "</s>"], ["read", "soft", "soft", "trained", "trained"])
    assert grouped == [Stretch("read", ["<s>"]), Stretch("soft", ["x", "x"]), Stretch("trained", ["4", "</s>"])]
    assert [paint(run, colour=False) for run in grouped] == ["<s>", "[soft prompt x 1] [end]", "«4 </s>»"]
    coloured = paint(grouped[2], colour=True)
    assert coloured != "4 </s>"
    assert re.sub(r"\x1b\[\d+m", "", coloured) == "4 </s>"


def test_the_wrong_models_are_named(command, base_folders: tuple[Path, Path], recipe: Path, tmp_path: Path) -> None:
    encoder, language_model = base_folders
    for arguments, message in [
        (("generate", language_model, "2+2?"), "not a bridge"),
        (("chat", encoder), "not a bridge"),
        (("export", language_model, "--out", tmp_path / "x"), "not a bridge"),
        (("show", recipe, "--set", f"encoder={language_model}"), "encoder"),
        (("show", recipe, "--set", f"language_model={encoder}"), "language model"),
        (("train", recipe, "--out", tmp_path / "run", "--set", f"encoder={language_model}"), "encoder"),
        (("import", language_model, "--out", tmp_path / "x"), "config.json"),
    ]:
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
