"""One process of `test_sharding.py`'s sharding tests: torchrun --nproc-per-node 2 THIS OUT CASE..."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from tiny import make_batch, make_bridge

from langbridge.model.language_models import remove_dropout
from langbridge.train.sharding import gathered_state, shard

RATE = 0.1


def build(case: str):
    encoder, language_model = {"tied": ("umt5", "gemma"), "bf16": ("mt5", "llama")}.get(case, ("mt5", "llama"))
    bridge = make_bridge(encoder, language_model, new_token_ids=[90, 91])
    if case == "bf16":
        bridge.encoder.to(torch.bfloat16)
        bridge.language_model.to(torch.bfloat16)
    bridge.set_training_regime(freeze_encoder=case == "frozen", train_new_rows=True)
    remove_dropout(bridge.encoder)  # a trained encoder has it, and two runs could not be compared
    return bridge.train()


def batch_of(bridge):
    """Four rows of one width, so that a process's half needs no trimming."""
    batch = make_batch(bridge, lengths=(9, 9, 9, 9), text=4)
    batch["encoder_input_ids"][:, 2] = 90  # a new token, so that its row learns
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    batch["labels"][:, :11] = -100
    return batch


def step(model, batch, count: int, world: int) -> float:
    """One step of gradient descent; the loss is a sum over this process's rows divided by the global count."""
    loss = model(**batch, num_items_in_batch=count).loss
    (loss * world).backward()  # the gradients are averaged over the processes
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad.to(parameter.dtype)
    model.zero_grad()
    return float(loss.detach())


def run(out: Path, case: str) -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    bridge = build(case)
    batch = batch_of(bridge)
    count = int((batch["labels"] != -100).sum())
    alone = build(case)
    start = {name: p.detach().clone() for name, p in alone.named_parameters() if p.requires_grad}
    expected = [step(alone, batch, count, 1) for _ in range(2)]
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if case == "bf16" else None
    shard(bridge, mesh, mp_policy=policy)
    assert any(isinstance(p, DTensor) for p in bridge.parameters())
    whole = [name for name, p in bridge.named_parameters() if not isinstance(p, DTensor)]
    blocks = [
        name
        for name, m in bridge.named_modules()
        if type(m).__name__.startswith("FSDP") and type(m).__name__.endswith(("Block", "Layer"))
    ]
    mine = {key: value.chunk(world)[rank] for key, value in batch.items()}
    losses = []
    for _ in range(2):
        loss = torch.tensor(step(bridge, mine, count, world))
        dist.all_reduce(loss)
        losses.append(float(loss))
    state = gathered_state(bridge)
    bridge.eval()
    alone.eval()
    prompt = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        tokens = bridge.generate(**prompt, max_new_tokens=5, do_sample=False)
        expected_tokens = alone.generate(**prompt, max_new_tokens=5, do_sample=False)
    if rank == 0:
        out.mkdir()
        bridge.save_pretrained(out / "checkpoint", state_dict=state)
        trained = {name: p.detach() for name, p in alone.named_parameters() if p.requires_grad}
        torch.save(
            {
                "whole": whole,
                "blocks": blocks,
                "losses": losses,
                "expected_losses": expected,
                "state": state,
                "expected_state": trained,
                "start": start,
                "tokens": tokens,
                "expected_tokens": expected_tokens,
            },
            out / "result.pt",
        )
    dist.barrier()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    for name in sys.argv[2:]:
        run(Path(sys.argv[1]) / name, name)
    dist.destroy_process_group()
