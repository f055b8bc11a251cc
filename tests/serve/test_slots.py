"""Rows that come and go between tokens are written as each would be alone, whatever kind of attention a model has."""

import pytest
import torch
from tiny import LANGUAGE_MODELS, make_language_model
from transformers import DynamicCache, MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM

from langbridge.errors import LangBridgeError
from langbridge.serve import slots as module
from langbridge.serve.slots import Slots

ROOM = 8

PROMPTS = {"a": [5, 9, 4], "b": [1, 7, 7, 30, 12, 8, 11], "c": [3], "d": list(range(10, 60)), "e": [8, 8]}


@pytest.fixture(autouse=True)
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", ROOM)


@torch.inference_mode()
def written(model, plan: list[tuple[list[str], list[str], int]]) -> dict[str, list[int]]:
    """plan: who joins, who leaves then, and how many steps follow."""
    slots, names, ids = Slots.of(model), list[str](), dict[str, list[int]]()

    def add(these: list[str], logits: torch.Tensor) -> None:
        for name, token in zip(these, logits[:, -1].argmax(-1).tolist(), strict=True):
            ids.setdefault(name, []).append(token)

    for join, leave, steps in plan:
        if join:
            rows = [torch.tensor(PROMPTS[name[0]]) for name in join]
            prompts = torch.nn.utils.rnn.pad_sequence(rows, True, 0, "left")
            mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], True, 0, "left")
            cache, positions = DynamicCache(), (mask.cumsum(-1) - 1).clamp(min=0)
            known = {"position_ids": positions} if "bloom" not in model.config.model_type else {}
            add(join, model(input_ids=prompts, attention_mask=mask, past_key_values=cache, **known).logits)
            slots.join(cache, list(map(len, rows)))
            names += join
        for name in leave:
            place = names.index(name)
            slots.leave(place)
            names[place] = names[-1]
            names.pop()
        for _ in range(steps):
            slots.reserve()
            inputs = slots.inputs(torch.device("cpu"))
            if "bloom" in model.config.model_type:
                del inputs["position_ids"]
            last = torch.tensor([[ids[name][-1]] for name in names])
            add(list(names), model(input_ids=last, past_key_values=slots, **inputs).logits)
            slots.advance()
    assert slots.lengths == [len(PROMPTS[name[0]]) + len(ids[name]) - 1 for name in names]
    return ids


@pytest.mark.parametrize("kind", [*LANGUAGE_MODELS, "windows"])
def test_every_row_is_written_as_alone(kind: str) -> None:
    if kind == "windows":
        torch.manual_seed(0)
        config = MistralConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, sliding_window=6, initializer_range=0.5)  # fmt: skip
        model = MistralForCausalLM(config).eval()
    else:
        model = make_language_model(kind)
    model.generation_config.eos_token_id = None
    found = written(
        model,
        [
            (["a", "b"], [], 3),
            (["d"], [], 4),  # longer than those that are there
            (["c"], ["a"], ROOM),  # past the room of the blocks
            (["e"], ["d", "b"], 5),
            (["a again"], ["c", "e", "a again"], 0),
            (["b again"], [], 2),  # after all have left
        ],
    )
    for name, ids in found.items():
        prompt = torch.tensor([PROMPTS[name[0]]])
        whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=len(ids), do_sample=False)
        assert ids == whole[0, prompt.shape[1] :].tolist(), name


@torch.inference_mode()
def test_memory_follows_the_rows() -> None:
    model = make_language_model("llama")
    slots = Slots.of(model)

    def rows() -> int:
        return slots.layers[0].blocks[0].shape[0]

    for _ in range(9):
        cache = DynamicCache()
        model(input_ids=torch.tensor([[4, 5]]), past_key_values=cache)
        slots.join(cache, [2])
    assert rows() == 16
    for place in reversed(range(2, 9)):
        slots.leave(place)
    for _ in range(ROOM + 1):
        slots.reserve()
        model(input_ids=torch.tensor([[6], [6]]), past_key_values=slots, **slots.inputs(torch.device("cpu")))
        slots.advance()
    assert rows() == 2
    slots.leave(0)
    slots.leave(0)
    assert slots.layers[0].blocks == ()


def test_models_that_keep_something_else_are_refused() -> None:
    mamba = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(LangBridgeError, match="mamba: answers that are written as they are asked for need a causal"):
        Slots.of(mamba)
