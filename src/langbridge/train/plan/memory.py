"""A bridge laid out without its weights: what each of its parts takes on one device while it is trained."""

import copy
import dataclasses
import math
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from langbridge.model import LangBridgeConfig, LangBridgeModel
from langbridge.model.encoders import check_encoder, check_language_model
from langbridge.model.language_models import PIECE
from langbridge.model.sequence import least_positions
from langbridge.model.tokenizers import WHITESPACE, load_tokenizer, whitespace_ids
from langbridge.train.blocks import ALL_LINEAR
from langbridge.train.hyperparameters import Sharding
from langbridge.train.objectives import objective_of
from langbridge.train.parts.adapters import is_named, untie_adapted
from langbridge.train.plan.activations import kept_by_encoder, kept_by_language_model
from langbridge.train.plan.shapes import shapes_of
from langbridge.train.recipe import Recipe
from langbridge.train.sharding import blocks_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartSize:
    """One part of the bridge: its parameters over all devices together, and its memory on one of them in bytes."""

    name: str
    parameters: int = 0
    trained: int = 0
    """Of the parameters, the trained ones."""
    state: int = 0
    """Bytes of the optimiser's state over all devices together."""
    weights: int = 0
    gradients: int = 0
    optimiser: int = 0
    activations: int = 0

    @property
    def memory(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations


class Layout:
    """The bridge of a recipe without its weights, and the size of each of its parts."""

    def __init__(self, recipe: Recipe, gpus: int, sharding: Sharding) -> None:
        self.recipe, self.gpus, self.sharding = recipe, gpus, sharding
        self.notes: list[str] = []
        self.lm_config, self.lm_dtype = self._base(recipe.language_model, "language model", check_language_model)
        self.bridge: LangBridgeModel | None = None
        if recipe.encoder is None:
            with torch.device("meta"):
                self.lm: PreTrainedModel = AutoModelForCausalLM.from_config(self.lm_config)
        else:
            self.encoder_config, self.encoder_dtype = self._base(recipe.encoder, "encoder", check_encoder)
            config = LangBridgeConfig(
                encoder_config=self.encoder_config,
                text_config=self.lm_config,
                connector=recipe.connector,
                freeze_encoder=bool(recipe.freeze_encoder),
            )
            with torch.device("meta"):
                self.bridge = LangBridgeModel(config)
            self.bridge.connector.requires_grad_(not recipe.freeze_connector)
            self.lm = self.bridge.language_model
            self.encoder_length = min(recipe.max_encoder_length, self.bridge.encoder_length_limit or sys.maxsize)
        self.lm.requires_grad_(self.bridge is None)
        if recipe.lora.r:
            untie_adapted(self.lm, recipe.lora.target_names)

    def _base(
        self, source: str, role: str, check: Callable[[PreTrainedConfig, str], object]
    ) -> tuple[PreTrainedConfig, torch.dtype]:
        """The configuration of a base, and its precision where it is frozen."""
        config, origin = shapes_of(source, role)
        self.notes.append(f"{role}: {source}, shapes from {origin}")
        check(config, source)
        if self.recipe.dtype != "auto":
            return config, getattr(torch, self.recipe.dtype)
        saved = config.dtype or torch.float32
        self.notes.append(f"{role}: in {saved}, as saved; dtype auto takes float32 on a machine that is slow in that")
        return config, saved

    def parts(self) -> tuple[PartSize, ...]:
        """Every part of the bridge, the logits, and what sharding gathers temporarily. Adds to `notes`."""
        train = self.recipe.train
        if train.max_steps == 0:
            self.notes.append(
                "no step: the models' weights alone are counted, not what the closed-form start is solved in"
            )
            parts = self._model_parts()
            return tuple(dataclasses.replace(p, state=0, gradients=0, optimiser=0, activations=0) for p in parts)
        parts = [*self._model_parts(), self._logits()]
        if self.sharding in ("zero3", "fsdp"):
            parts.append(PartSize(name="gathered", weights=self._gathered()))
            self.notes.append(
                "gathered: two of the largest blocks, and what belongs to no block, whole in the precision of "
                "computation"
            )
        self.notes += [
            f"activations: {self._rows_at_once} rows at once, every one as long as the recipe allows"
            f"{', recomputed block by block' if train.activation_checkpointing else ''}",
            "not counted: the driver's own memory, communication buffers of sharding, fragmentation",
        ]
        if self.bridge is not None and self.sharding != "none":
            self.notes.append(
                "checkpoint: the bridge's own; DeepSpeed and FSDP write every weight of the frozen models beside it"
            )
        if self.bridge is not None and self.bridge.connector.injects:
            kind = type(self.bridge.connector).__name__
            self.notes.append(f"not counted: what {kind} keeps inside the language model's layers")
        return tuple(parts)

    # Parameters

    def _model_parts(self) -> list[PartSize]:
        parts = []
        if self.bridge is not None:
            encoder, connector = self.bridge.encoder.parameters(), self.bridge.connector.parameters()
            parts.append(self._part("encoder", encoder, self.encoder_dtype, self._encoder_activations()))
            parts.append(self._part("connector", connector))
            if self._new_rows.numel():
                parts.append(self._part("new rows", [self._new_rows]))
        parts.append(self._part("language model", self.lm.parameters(), self.lm_dtype, self._lm_activations()))
        if self._adapted:
            shapes = [layer.weight.shape for _, layer in self._adapted]
            adapters = [nn.Parameter(torch.empty(self.recipe.lora.r, sum(shape), device="meta")) for shape in shapes]
            if self.recipe.lora.dora:
                widths = [layer.weight.shape[isinstance(layer, nn.Embedding)] for _, layer in self._adapted]
                adapters += [nn.Parameter(torch.empty(width, device="meta")) for width in widths]
            parts.append(self._part("adapters", adapters))
        return parts

    def _part(
        self, name: str, parameters: Iterable[nn.Parameter], frozen: torch.dtype = torch.float32, activations: int = 0
    ) -> PartSize:
        parameters = list(parameters)
        trained = [p for p in parameters if p.requires_grad]
        total, learned = sum(p.numel() for p in parameters), sum(p.numel() for p in trained)
        # DeepSpeed's bf16 casts the whole model, and keeps a float32 master copy of what it trains.
        halved = self.sharding in ("zero2", "zero3") and self.recipe.train.bf16
        width = 2 if halved else 4
        weights = (total - learned) * (2 if halved else frozen.itemsize) + learned * width
        gradients = learned * width
        state = sum(self._optimiser_bytes(p) for p in trained)
        if self.sharding == "none" and self.gpus > 1:
            gradients *= 2  # the buckets that data parallelism reduces are beside the gradients

        def divided(size: int, by: bool) -> int:
            return math.ceil(size / self.gpus) if by else size

        return PartSize(
            name=name,
            parameters=total,
            trained=learned,
            state=state,
            weights=divided(weights, self.sharding in ("zero3", "fsdp")),
            gradients=divided(gradients, self.sharding != "none"),
            optimiser=divided(state + (4 * learned if halved else 0), self.sharding != "none"),
            activations=activations,
        )

    def _optimiser_bytes(self, parameter: nn.Parameter) -> int:
        if self.recipe.train.optim != "adafactor":
            return 8 * parameter.numel()
        if parameter.ndim < 2:
            return 4 * parameter.numel()
        return 4 * (parameter.numel() // parameter.shape[-1] + parameter.numel() // parameter.shape[-2])

    @cached_property
    def _new_rows(self) -> nn.Parameter:
        """The rows for white space that the encoder's tokenizer loses; whether they are trained, the data decide."""
        recipe, source = self.recipe, self.recipe.encoder
        assert self.bridge is not None
        assert source is not None
        count = 0
        tokenizer = load_tokenizer(source, required=False) if Path(source).is_dir() else None
        if tokenizer is not None:
            count = len(whitespace_ids(tokenizer))
        elif self.encoder_config.model_type in ("t5", "mt5", "umt5"):
            count = len(WHITESPACE)
        in_template = recipe.template_in == "encoder" and any(space in recipe.template for space in WHITESPACE)
        trained = bool(count) and (not recipe.freeze_encoder or in_template)
        if trained and recipe.freeze_encoder:
            self.notes.append("new rows: trained, because the template holds white space that the encoder loses")
        elif count and not trained:
            self.notes.append("new rows: not trained, supposing that no prompt holds white space that they stand for")
        width = self.bridge.encoder.get_input_embeddings().embedding_dim
        return nn.Parameter(torch.empty(count, width, device="meta"), requires_grad=trained)

    @cached_property
    def _adapted(self) -> list[tuple[str, nn.Module]]:
        """The layers of the language model that get an adapter, by name."""
        names, head = self.recipe.lora.target_names, self.lm.get_output_embeddings()
        if not self.recipe.lora.r:
            return []
        layers = [
            (name, module)
            for name, module in self.lm.named_modules()
            if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim == 2
        ]
        if names == [ALL_LINEAR]:
            return [pair for pair in layers if pair[1] is not head and not isinstance(pair[1], nn.Embedding)]
        return [(name, layer) for name, layer in layers if is_named(name, names)]

    # Activations

    def _encoder_activations(self) -> int:
        assert self.bridge is not None
        trained = not self.recipe.freeze_encoder
        if not trained and not self._new_rows.requires_grad:
            return 0  # it runs without gradient
        kept = kept_by_encoder(
            self.encoder_config,
            self._rows_at_once,
            self.encoder_length,
            dtype=torch.float32 if trained else self.encoder_dtype,
            bf16=self.recipe.train.bf16,
            trained=trained,
        )
        if trained:
            return self._recomputed(kept, self.bridge.encoder, self.encoder_dtype, self.encoder_length)
        if self.recipe.train.activation_checkpointing:
            self.notes.append("encoder: frozen, so that its activations, kept for the new rows, are not recomputed")
        return kept

    def _lm_activations(self) -> int:
        whole = self.bridge is None
        config = copy.deepcopy(self.lm_config)
        if (layers := objective_of(self.recipe).layers) is not None:
            config.get_text_config().num_hidden_layers = layers
        kept = kept_by_language_model(
            config,
            self._rows_at_once,
            self.recipe.max_length,
            dtype=torch.float32 if whole else self.lm_dtype,
            bf16=self.recipe.train.bf16,
            trained=None if whole else frozenset(name for name, _ in self._adapted),
        )
        return self._recomputed(kept, self.lm, self.lm_dtype, self.recipe.max_length)

    @property
    def _rows_at_once(self) -> int:
        """Rows in one pass, where every one is as long as the recipe allows."""
        train, most = self.recipe.train, self.recipe.train.per_device_train_batch_size
        if train.positions_per_pass is None:
            return most
        return max(1, min(most, train.positions_per_pass // self.recipe.max_length))

    def _recomputed(self, kept: int, base: PreTrainedModel, dtype: torch.dtype, length: int) -> int:
        """With activation checkpointing: the input of every block, and one block's activations."""
        if not self.recipe.train.activation_checkpointing:
            return kept
        blocks = blocks_of(base)
        width = base.get_input_embeddings().embedding_dim
        # The stream between blocks is float32 under mixed precision, unless the weights are narrower.
        stream = 4 if base.get_input_embeddings().weight.requires_grad else dtype.itemsize
        inputs = len(blocks) * self._rows_at_once * length * width * stream
        return min(kept, inputs + kept // max(len(blocks), 1))

    def _logits(self) -> PartSize:
        recipe = self.recipe
        if objective_of(recipe).layers is not None:
            return PartSize(name="logits")
        targets = recipe.max_length - 1
        if self.bridge is not None:
            shortest = recipe.connector.soft_length(objective_of(recipe).shortest_source)
            targets = recipe.max_length - least_positions(recipe.template, shortest)
        targets *= self._rows_at_once
        kept = 0
        head = self.lm.get_output_embeddings()
        adapted = any(layer is head for _, layer in self._adapted)
        if self.bridge is not None and not adapted and getattr(self.lm.config, "final_logit_softcapping", None) is None:
            # In pieces; what stays is the gradient of the head's input.
            kept = targets * self.lm.get_input_embeddings().embedding_dim * (2 if recipe.train.bf16 else 4)
            self.notes.append(f"logits: made in pieces of {PIECE} target positions")
            targets = min(targets, PIECE)
        else:
            self.notes.append(f"logits: at most {targets:,} target positions at once (the shortest prompts)")
        vocabulary = head.weight.shape[0]
        # The head's own precision, the loss's float32 copy, its log-probabilities, and the gradient of the copy.
        bytes_each = (2 if recipe.train.bf16 else self.lm_dtype.itemsize) + 3 * 4
        return PartSize(name="logits", activations=kept + targets * vocabulary * bytes_each)

    def _gathered(self) -> int:
        """Bytes of sharded weights that one device gathers at a time."""
        wide = 2 if self.recipe.train.bf16 else 4
        sizes = []
        bases = [self.lm] if self.bridge is None else [self.bridge.encoder, self.lm]
        for base in bases:
            blocks = [sum(p.numel() for p in block.parameters()) for block in blocks_of(base)]
            rest = sum(p.numel() for p in base.parameters()) - sum(blocks)
            sizes.append((2 * max(blocks, default=0), rest))
        lm_blocks, lm_rest = sizes[-1]
        encoder = sum(sizes[0]) if self.bridge is not None else 0
        return wide * (lm_rest + max(lm_blocks, encoder))
