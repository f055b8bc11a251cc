"""A batch that rows join and leave between tokens, as a server writes them."""

import torch
from tiny import make_batch, one_row

from langbridge.model import LangBridgeModel
from langbridge.serve.batch import Batch
from langbridge.serve.engine import Answer, Decoding
from langbridge.serve.generation import Ending
from langbridge.serve.readers import Reading
from langbridge.serve.rows import Row
from langbridge.serve.sampling import Choice


def written_as_each_alone(bridge: LangBridgeModel) -> dict[int, Answer]:
    """The answers of four rows, each held against what the bridge generates for it alone; an answer's text is its
    tokens' ids."""
    whole, told = make_batch(bridge, lengths=(9, 4, 6, 3)), dict[int, Answer]()

    def row(number: int, new_tokens: int) -> Row:
        one = one_row(whole, number)
        reading = Reading(one["input_ids"][0].tolist(), one["encoder_input_ids"].tolist(), [], 0)
        decoding, ending = Decoding(new_tokens), Ending(frozenset(), (), lambda ids: " ".join(map(str, ids)))
        choice = Choice(bridge, decoding, 0, [], number, bridge.device)
        return Row(reading, decoding, choice, ending, lambda what: told.__setitem__(number, what), "")

    batch = Batch(bridge)
    with torch.inference_mode():
        for joining, steps in (([row(0, 3), row(1, 9)], 2), ([row(2, 9), row(3, 4)], 9)):
            batch.join(joining)
            for _ in range(steps):
                batch.leave()
                if batch.rows:
                    batch.step()
    for number, answer in told.items():
        alone = bridge.generate(**one_row(whole, number), max_new_tokens=answer.tokens, do_sample=False)
        assert answer.text == " ".join(map(str, alone[0, -answer.tokens :].tolist()))
    assert len(told) == 4
    return told
