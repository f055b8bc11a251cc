"""The reading score: what is swapped, what is counted, and that it tells a reader from one that does not read."""

import math

import pytest
import torch

from langbridge.model import ConnectorSettings, build_bridge
from langbridge.model.reading import ReadingScore, reading_score, with_other_prompts

PAIRS = [("say a", "aa"), ("say aaaa", "aaaa"), ("say bb", "b"), ("ab", "abab"), ("say b" * 4, "bb")]


@pytest.fixture(params=["linear", "resampler"])
def bridge(base_folders, request):
    return build_bridge(
        *base_folders,
        connector=ConnectorSettings.read(request.param, num_latents=3),
        template="Q: {prompt}\nA:",
        template_in="lm",
    )


def batch_of(processor, pairs):
    prompts, targets = zip(*pairs, strict=True)
    return dict(processor(list(prompts), targets=list(targets), return_tensors="pt"))


def real(batch, name, row):
    mask = batch["encoder_attention_mask" if name.startswith("encoder") else "attention_mask"][row].bool()
    return batch[name][row][mask].tolist()


def test_targets_keep_their_text_and_get_another_rows_prompt(bridge):
    model, processor = bridge
    batch = batch_of(processor, PAIRS)
    swapped = with_other_prompts(batch)
    for row in range(len(PAIRS)):
        own, theirs = real(batch, "encoder_input_ids", row), real(swapped, "encoder_input_ids", row)
        assert theirs != own
        assert len(theirs) == len(own), "the number of soft prompts would tell the two apart"
        assert theirs[-1] == own[-1], "the end mark was lost"
    for name in ("input_ids", "attention_mask", "encoder_attention_mask", "labels"):
        assert torch.equal(swapped[name], batch[name])
    with torch.no_grad():  # the model itself counts placeholders against soft prompts
        assert torch.isfinite(model(**swapped).loss)


def test_no_row_keeps_its_own_prompt_whatever_the_lengths(base_folders):
    _, processor = build_bridge(*base_folders)
    for pairs in ([("ab", "a"), ("ba", "b")], [("a" * n, "x") for n in (1, 1, 1, 2, 5)]):
        # The first character tells whose prompt it is.
        pairs = [(f"{index}{prompt}", target) for index, (prompt, target) in enumerate(pairs)]
        batch = batch_of(processor, pairs)
        swapped = with_other_prompts(batch)
        first = [real(batch, "encoder_input_ids", row)[0] for row in range(len(pairs))]
        theirs = [real(swapped, "encoder_input_ids", row)[0] for row in range(len(pairs))]
        assert sorted(theirs) == sorted(first), "every prompt is used once"
        assert all(a != b for a, b in zip(first, theirs, strict=True))


def test_the_score_is_a_mean_over_target_tokens_with_the_error_of_a_ratio(base_folders):
    model, processor = build_bridge(*base_folders)
    batch = batch_of(processor, PAIRS)
    swapped = with_other_prompts(batch)
    found = reading_score(model, [batch])
    differences, tokens = [], []
    with torch.no_grad():
        total = [float(model(**rows, num_items_in_batch=1).loss) for rows in (batch, swapped)]
        for row in range(len(PAIRS)):
            one = [{name: tensor[row : row + 1] for name, tensor in rows.items()} for rows in (batch, swapped)]
            own, other = (float(model(**rows, num_items_in_batch=1).loss) for rows in one)
            differences.append(other - own)
            tokens.append(int((batch["labels"][row, 1:] != -100).sum()))
    n = sum(tokens)
    # Sums of some 20 losses in single precision, in another order.
    assert found.own == pytest.approx(total[0] / n, rel=1e-4)
    assert found.other == pytest.approx(total[1] / n, rel=1e-4)
    assert found.score == pytest.approx(sum(differences) / n, rel=1e-3, abs=1e-4)
    residues = [(d - found.score * t) ** 2 for d, t in zip(differences, tokens, strict=True)]
    assert found.error == pytest.approx(math.sqrt(sum(residues) * 5 / 4) / n, rel=1e-3)
    assert found.rows == 5
    assert not model.training


def test_a_difference_is_paired_by_rows():
    first = ReadingScore.of(own=[1.0, 2.0, 3.0], other=[3.0, 6.0, 9.0], tokens=[2, 4, 6])
    second = ReadingScore.of(own=[1.0, 2.0, 3.0], other=[2.0, 4.0, 6.0], tokens=[2, 4, 6])
    assert (first.score, second.score) == (1.0, 0.5)
    assert first.less(second) == (0.5, 0.0), "each row's cost is twice the other's: nothing is left to chance"
    third = ReadingScore.of(own=[1.0, 2.0, 3.0], other=[3.0, 4.0, 6.0], tokens=[2, 4, 6])
    value, error = third.less(second)
    assert value == pytest.approx(1 / 12)
    residues = [(1 - 2 / 12) ** 2, (4 / 12) ** 2, (6 / 12) ** 2]
    assert error == pytest.approx(math.sqrt(sum(residues) * 3 / 2) / 12)
