"""Batches of like length: every row once, the same order again, and shards that fit together."""

import random

import pytest

from langbridge.errors import LangBridgeError
from langbridge.train.sampler import LengthGrouped


def lengths_of(rows):
    rng = random.Random(3)
    return [rng.randint(1, 100) for _ in range(rows)]


def test_every_row_comes_once_in_batches_of_like_length():
    lengths = lengths_of(1003)
    sampler = LengthGrouped(lengths, 8, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 126
    assert sorted(row for batch in batches for row in batch) == list(range(1003))
    assert [len(batch) for batch in batches] == [8] * 125 + [3]
    assert batches == list(LengthGrouped(lengths, 8, seed=1))
    spread = sum(max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches) / len(batches)
    # Batches drawn without regard to length would spread over some 78 of the 100.
    assert spread < 15


def test_the_order_is_a_function_of_seed_and_epoch():
    lengths = lengths_of(100)
    sampler = LengthGrouped(lengths, 8, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    assert list(LengthGrouped(lengths, 8, seed=2)) != first
    again = LengthGrouped(lengths, 8, seed=1)
    again.set_epoch(1)
    assert list(again) == second


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("rows", [4, 16, 17, 18, 19, 25, 31, 64])
def test_ranks_share_an_epoch_without_a_row_twice(rows, ranks):
    shards = [list(LengthGrouped(lengths_of(rows), 4, seed=1, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert len({len(shard) for shard in shards}) == 1, "a process would wait for ever for the others"
    assert len(shards[0]) == len(LengthGrouped(lengths_of(rows), 4, seed=1, ranks=ranks))
    assert sorted(row for shard in shards for batch in shard for row in batch) == list(range(rows))
    assert all(1 <= len(batch) <= 4 for shard in shards for batch in shard)


@pytest.mark.parametrize("rows", [64, 70])
def test_two_processes_make_the_updates_of_two_accumulated_batches(rows):
    alone = list(LengthGrouped(lengths_of(rows), 4, seed=1))
    updates = [sorted(row for batch in alone[i : i + 2] for row in batch) for i in range(0, len(alone), 2)]
    both = zip(*(LengthGrouped(lengths_of(rows), 4, seed=1, rank=rank, ranks=2) for rank in range(2)), strict=True)
    assert [sorted(row for batch in pair for row in batch) for pair in both] == updates


def test_rows_carry_the_number_of_their_update_on_all_ranks_alike():
    samplers = [LengthGrouped(lengths_of(32), 4, seed=1, rank=rank, ranks=2) for rank in range(2)]
    for sampler in samplers:
        sampler.set_epoch(2)
    steps = [[{row.step for row in batch} for batch in sampler] for sampler in samplers]
    assert steps[0] == steps[1] == [{8}, {9}, {10}, {11}]


@pytest.mark.parametrize(("ranks", "accumulated"), [(1, 4), (2, 2), (4, 1)])
def test_an_update_draws_alike_however_it_is_made(ranks, accumulated):
    """So many rows that the last update of an epoch is not whole."""
    drawn: dict[int, set[int]] = {}
    for rank in range(ranks):
        sampler = LengthGrouped(lengths_of(54), 4, seed=1, rank=rank, ranks=ranks, accumulated=accumulated)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            for row in (row for batch in sampler for row in batch):
                drawn.setdefault(row.step, set()).add(int(row))
    whole = list(LengthGrouped(lengths_of(54), 4, seed=1))
    assert list(drawn) == list(range(8))
    assert drawn[0] == {int(row) for batch in whole[:4] for row in batch}


def test_fewer_rows_than_processes_are_an_error():
    with pytest.raises(LangBridgeError, match="3 rows for 4 processes"):
        LengthGrouped([1, 2, 3], 2, seed=0, ranks=4)
