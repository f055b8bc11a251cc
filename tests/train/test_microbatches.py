"""A batch in passes: every row once, no pass too large, nothing but padding left out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from langbridge.data import Example, LabelledCollator
from langbridge.model import build_bridge
from langbridge.train.microbatches import in_passes, passes_needed


def batch_of(lengths: list[tuple[int, int]], sources: int = 1) -> dict:
    """Rows of so many (encoder, language model) positions, told apart by their ids, padded on the left as prompts are
    and on the right as targets are. Of a row's sources the first is as long as stated, the others are half as long."""
    source, sequence = (max(column) for column in zip(*lengths, strict=True))
    batch: dict = {
        "encoder_input_ids": torch.zeros(len(lengths) * sources, source, dtype=torch.long),
        "input_ids": torch.zeros(len(lengths), sequence, dtype=torch.long),
        "rows": [f"row {row}" for row in range(len(lengths))],
    }
    for row, (of_source, of_sequence) in enumerate(lengths):
        for number in range(sources):
            length = of_source if number == 0 else -(-of_source // 2)
            batch["encoder_input_ids"][row * sources + number, -length:] = torch.arange(1, length + 1) + 100 * row
        batch["input_ids"][row, :of_sequence] = torch.arange(1, of_sequence + 1) + 100 * row
    batch["encoder_attention_mask"] = (batch["encoder_input_ids"] > 0).long()
    batch["attention_mask"] = (batch["input_ids"] > 0).long()
    batch["labels"] = batch["input_ids"].masked_fill(batch["input_ids"] == 0, -100)
    return batch


def content(batch: dict) -> list[tuple[str, list[int], list[int]]]:
    encoder_ids = batch["encoder_input_ids"].view(len(batch["rows"]), -1)
    return [
        (name, source[source > 0].tolist(), labels[labels >= 0].tolist())
        for name, source, labels in zip(batch["rows"], encoder_ids, batch["labels"], strict=True)
    ]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), min_size=1, max_size=12),
    st.integers(1, 500),
    st.integers(0, 3),
    st.integers(1, 2),
)
def test_every_row_once_and_no_pass_too_large(
    lengths: list[tuple[int, int]], limit: int, more: int, sources: int
) -> None:
    batch = batch_of(lengths, sources)
    count = passes_needed(batch, limit)
    parts = in_passes(batch, count)
    assert sorted(row for part in parts for row in content(part)) == sorted(content(batch))
    for part in parts:
        for ids in (part["input_ids"], part["encoder_input_ids"]):
            assert ids.numel() <= limit or len(part["rows"]) == 1
            assert bool((ids > 0).any(0).all()), "a column of padding alone"
    # As many as another process needs; what comes again has nothing to learn.
    wanted = in_passes(batch, count + more)
    assert len(wanted) == count + more
    assert all(len(part["input_ids"]) for part in wanted)
    assert sorted(row for part in wanted for row in content(part) if row[2]) == sorted(content(batch))


def test_a_batch_that_fits_is_left_as_it_is() -> None:
    batch = batch_of([(3, 4), (2, 6)])
    assert passes_needed(batch, 12) == 1
    assert in_passes(batch, 1)[0] is batch


TWICE = "<soft>{prompt}</soft>so<soft>{prompt}</soft>"


@pytest.mark.parametrize(
    ("limit", "more", "template"),
    [(1, 0, "{prompt}"), (1, 2, "{prompt}"), (40, 0, "{prompt}"), (80, 0, "{prompt}"), (80, 0, TWICE)],
)
def test_the_gradients_are_those_of_one_pass(base_folders, limit: int, more: int, template: str) -> None:
    torch.manual_seed(0)
    model, processor = build_bridge(*base_folders, template=template)
    collate = LabelledCollator(processor, max_encoder_length=32, max_length=64)
    batch = collate([Example("say " + "ab" * n, "ba" * (n % 3 + 1)) for n in (1, 9, 4, 2, 7)])
    targets = int((batch["labels"] != -100).sum())
    count = passes_needed(batch, limit)
    assert count > 1
    gradients, positions = [], []
    for parts in ([batch], in_passes(batch, count + more)):
        model.zero_grad()
        for part in parts:
            model(**part, num_items_in_batch=targets).loss.backward()
        positions.append(sum(part["input_ids"].numel() for part in parts))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    # Sums in single precision, in another order.
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-4
    assert positions[1] < positions[0], "padding goes with the passes"
