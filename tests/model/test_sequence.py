"""Templates as strings: the rows that the module draws, and what the drawings do not show."""

import re

import pytest
import torch

from langbridge import LangBridgeProcessor
from langbridge.data import LabelledCollator
from langbridge.data.examples import Example
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge, sequence
from langbridge.model.layout import Row

DRAWN = re.findall(r"^    (?:\S+ )+ +(\S.*</soft>.*?) +(<s>.*)$", str(sequence.__doc__), re.MULTILINE)
SHOTS, PROMPT, TARGET = "1+1=2 ", "Tom", "4"


def laid(processor: LangBridgeProcessor, prompt: str = PROMPT, shots: str = SHOTS, **settings) -> Row:
    settings = {"targets": [TARGET], "end": processor.answer_end_id, **settings}
    (row,) = processor.tokens.rows([processor.layout.parts(prompt, shots)], **settings)
    return row


def drawn(processor: LangBridgeProcessor, row: Row) -> str:
    """A row as the module's docstring draws it, by its spans and sources alone."""
    text, sources = "", iter(row.sources)
    for kind, start, stop in row.spans:
        ids = row.ids[start:stop]
        if kind == "soft":
            source = next(sources)
            assert ids == [processor.soft_prompt_token_id] * processor.tokens.soft_positions(source)
            text += f"[{processor.encoder_tokenizer.decode(source, skip_special_tokens=True)}]."
        else:
            text += "|" * (kind == "target") + processor.tokenizer.decode(ids)
        assert row.labels[start:stop] == (ids if kind in ("target", "end") else [-100] * len(ids))
    assert next(sources, None) is None
    assert [span.stop for span in row.spans] == [*(span.start for span in row.spans[1:]), len(row.ids)]
    return text


def test_five_layouts_are_drawn() -> None:
    assert len(DRAWN) == 5


@pytest.mark.parametrize(("template", "expected"), DRAWN)
def test_a_row_is_as_it_is_drawn(base_folders, template: str, expected: str) -> None:
    processor = LangBridgeProcessor.from_bases(*base_folders, template=template)
    shots = SHOTS if sequence.SHOTS in template else ""
    assert drawn(processor, laid(processor, shots=shots)) == expected


@pytest.mark.parametrize(("template_in", "template"), [("encoder", DRAWN[0][0]), ("lm", DRAWN[1][0])])
def test_settings_of_old_are_two_of_the_strings(base_folders, template_in: str, template: str) -> None:
    old = LangBridgeProcessor.from_bases(*base_folders, template="Q: {prompt} A:", template_in=template_in)
    new = LangBridgeProcessor.from_bases(*base_folders, template=template)
    for shots in ("", SHOTS):
        assert drawn(old, laid(old, shots=shots)) == drawn(new, laid(new, shots=shots))
    assert old.layout == new.layout


def test_braces_of_a_prompt_are_no_fields(base_folders) -> None:
    processor = LangBridgeProcessor.from_bases(*base_folders, template="{shots}<soft>{prompt}</soft>{prompt} {x}")
    row = laid(processor, prompt="{shots}{prompt}", shots="{prompt};")
    assert drawn(processor, row) == "<s>{prompt};[{shots}{prompt}].{shots}{prompt} {x}|4</s>"


def test_what_was_cut_and_the_room_that_is_left(base_folders) -> None:
    processor = LangBridgeProcessor.from_bases(*base_folders, template="<soft>{prompt}</soft>{prompt}")
    whole = laid(processor, max_length=20, shots="")  # <s>, T o m </s> and the end vector, T o m, 4 </s>
    assert (len(whole.ids), whole.room, whole.prompt_cut, whole.target_cut) == (11, 9, False, False)
    cuts = {"max_encoder_length": 3, "max_length": 15, "cut": ("encoder", "target")}
    row = laid(processor, "Tom has", "", targets=["45678"], **cuts)
    assert (row.room, row.prompt_cut, row.target_cut) == (0, True, True)
    assert drawn(processor, row) == "<s>[To].Tom has|45</s>"
    with pytest.raises(LangBridgeError, match="row 0: the sequence has 19 tokens"):
        laid(processor, "Tom has", "", max_length=18)


@pytest.mark.parametrize(
    "template", ["<soft>{prompt}</soft>{prompt}", DRAWN[4][0], "So: {shots}<soft>{prompt}</soft>A"]
)
def test_a_row_of_a_batch_answers_as_alone(base_folders, tmp_path, template: str) -> None:
    model, processor = build_bridge(*base_folders, template=template)
    with torch.no_grad():
        model.connector.linear.weight.mul_(8)
    processor.save_pretrained(tmp_path)
    processor = LangBridgeProcessor.from_pretrained(tmp_path)
    prompts, wanted = ["Tom has 3 apples", "Tom", "How many?"], {"max_new_tokens": 6, "do_sample": False}
    together = model.generate(**processor(prompts, shots=SHOTS), **wanted)[:, -6:]
    alone = [model.generate(**processor([prompt], shots=SHOTS), **wanted)[:, -6:] for prompt in prompts]
    assert torch.equal(together, torch.cat(alone))
    assert len({tuple(row) for row in together.tolist()}) > 1
    model(**processor(prompts, targets=["3", "4", "5"])).loss.backward()


def test_a_row_s_sources_are_marked_cut_and_named_by_the_row(base_folders) -> None:
    processor = LangBridgeProcessor.from_bases(*base_folders, template="<soft>a</soft>b<soft>{prompt}</soft>")
    with pytest.raises(LangBridgeError, match=r"texts, rows \[1\]: the longest has 9 encoder tokens"):
        processor(["Tom", "Tom says"], max_encoder_length=6)
    with pytest.warns(UserWarning, match=r"prompts of rows \[1\]"):
        batch = processor(["Tom", "Tom says"], max_encoder_length=6, truncation="encoder")
    assert batch["encoder_attention_mask"].sum(1).tolist() == [2, 4, 2, 6]
    assert processor.own_length == 1 + 1  # <s> and b
    assert processor.longest_head(6) == 2 + 2 * (6 + 1)  # and an end vector each


def test_rows_whose_prompt_the_language_model_reads_are_judged_by_their_length(base_folders) -> None:
    processor = LangBridgeProcessor.from_bases(*base_folders, template="<soft>{prompt}</soft>{prompt}")
    assert processor.longest_head(6) is None
    collator = LabelledCollator(processor, max_encoder_length=6, max_length=20)
    short, long = collator.misfits([Example("Tom", "4"), Example("Tom has many", "4")])
    assert short is None
    assert "the prompt takes 20 of the 20 positions" in str(long)
    assert processor.layout.around == ("", "")
    assert processor.layout.source == ("", "")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("no field", "exactly once, or between <soft> and </soft>"),
        ("{prompt}{prompt}", "exactly once"),
        ("<soft>{prompt}", "every <soft> to be closed"),
        ("<soft><soft>{prompt}</soft></soft>", "every <soft> to be closed"),
        ("{prompt}</soft>", "every <soft> to be closed"),
        ("<soft>a</soft>{prompt}", "expected {prompt} between <soft> and </soft>"),
        ("{shots}{shots}<soft>{prompt}</soft>", "{shots} at most once"),
    ],
)
def test_a_template_that_cannot_be_read_is_told(template: str, message: str) -> None:
    with pytest.raises(LangBridgeError, match=re.escape(message)):
        sequence.check_template(template)


def test_a_system_message_with_braces_is_only_text() -> None:
    template = sequence.Template((sequence.Own("{prompt} "), *sequence.Template().pieces))
    assert template.text("Tom") == "{prompt} Tom"


@pytest.mark.parametrize(
    ("places", "given", "said"),
    [
        ([3, 4], [3, 3], "row 1: input_ids holds 4 placeholders but the encoder's input gives 3 "),
        ([4, 3], [3, 3], "row 0: input_ids holds 4 placeholders but the encoder's input gives 3 "),
        ([5], [3, 3], "row 0: input_ids holds 5 placeholders but the encoder's input gives 6 "),
    ],
)
def test_a_row_of_one_source_that_does_not_fit_is_told_of_its_own(
    places: list[int], given: list[int], said: str
) -> None:
    with pytest.raises(LangBridgeError, match=said):
        sequence.sources_of_rows(places, given)


def test_a_row_may_have_no_source_and_another_several() -> None:
    assert sequence.sources_of_rows([8, 0], [3, 5]) == [2, 0]
