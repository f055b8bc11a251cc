"""A bridge over several GPUs with PyTorch's own sharding (FSDP2), and what a checkpoint holds brought together again.

`shard` is for a training loop of one's own. Hugging Face's `Trainer` shards through accelerate or DeepSpeed; what
`gathered_state` returns is then what a checkpoint holds, whichever of the three cut the weights up.
"""

from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.model.saving import own_weights


def shard(
    model: LangBridgeModel, mesh: DeviceMesh | None = None, *, mp_policy: MixedPrecisionPolicy | None = None
) -> LangBridgeModel:
    """Shard a bridge in place: every block of the encoder and of the language model by itself, then the connector,
    the rest of the encoder, and all that is left as one.

    mesh: one dimension shards; two replicate over the first and shard over the second. None: all processes.
    mp_policy: precision of computation and of the gradients' reduction; None computes in the weights' own.

    The blocks are the modules that each base says must not be split. What is left (the language model's embeddings,
    norm and head) belongs to the bridge itself, because the bridge embeds the text before the language model runs;
    the connector is apart, because its weights are float32 whatever the bases are. Call the model and `generate` as
    ever, not `encode` and `soft_prompts`, which would meet weights in pieces.

    Raises `LangBridgeError` for a base that does not name its blocks, and for a connector that reaches into the
    language model's layers, whose weights would be in pieces there; nothing is sharded then.
    """
    check_whole_in_layers(model)
    options: dict[str, Any] = {"mesh": mesh, "mp_policy": mp_policy or MixedPrecisionPolicy()}
    for base in (model.encoder, model.language_model):
        blocks = blocks_of(base)
        if not blocks:
            raise LangBridgeError(
                f"sharding: a {type(base).__name__} does not say which of its blocks stay whole (_no_split_modules); "
                f"shard it by hand with torch.distributed.fsdp.fully_shard"
            )
        for block in blocks:
            fully_shard(block, **options)
    # The bridge reads the connector's dtype before it runs, and its input comes in that dtype: no policy over it.
    fully_shard(model.connector, mesh=mesh)
    fully_shard(model.encoder, **options)
    fully_shard(model, **options)
    register_fsdp_forward_method(model, "generate")
    return model


def check_whole_in_layers(model: Any) -> None:
    """Raises `LangBridgeError` for a bridge whose connector uses its weights where sharding has them in pieces."""
    if isinstance(model, LangBridgeModel) and model.connector.injects:
        raise LangBridgeError(
            f"sharding: {type(model.connector).__name__} uses its weights inside the language model's layers, where "
            "they are in pieces; train it with one whole bridge a process (no FSDP, no ZeRO-3)"
        )


def blocks_of(base: nn.Module) -> list[nn.Module]:
    """A base's repeated blocks in order: the modules that it says must not be split. None, if it says nothing."""
    names = set(base._no_split_modules or ())
    return [module for module in base.modules() if type(module).__name__ in names]


def gathered_state(model: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """Every weight that a checkpoint holds under its name, whole and on the CPU, wherever it lies now: on one device,
    in FSDP2's pieces or in those of DeepSpeed's ZeRO-3. Of a bridge those that `save_pretrained` writes, trained in
    this run or not; of a plain language model all.

    A collective: every process must call it. keep: whether this process gets them; one that does not write needs none.
    Give them to `save_pretrained(folder, state_dict=...)` in one process only. Tied weights come once, under their
    first name.
    """
    own = own_weights(model.config) if isinstance(model, LangBridgeModel) else ("",)
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or not name.startswith(own):
            continue
        seen.add(id(tensor))
        with _whole(tensor):
            value = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if keep:
                state[name] = value.detach().to("cpu", copy=True)
    return state


def _whole(parameter: Tensor) -> Any:
    """The context in which a weight that ZeRO-3 holds in pieces is there; for any other, nothing."""
    if not hasattr(parameter, "ds_id"):
        return nullcontext()
    import deepspeed

    # One at a time: together, the trained encoder would not fit beside the rest.
    return deepspeed.zero.GatheredParameters([parameter])
