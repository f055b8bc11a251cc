"""A bridge laid out without its weights: what each of its parts takes on one GPU while it is trained."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from langbridge.model import LangBridgeConfig, LangBridgeModel
from langbridge.model.encoders import check_encoder, check_language_model
from langbridge.model.language_models import PIECE
from langbridge.model.sequence import LEAST_AROUND
from langbridge.model.tokenizers import WHITESPACE, load_tokenizer, whitespace_ids
from langbridge.train.adapters import is_named, untie_adapted
from langbridge.train.plan.activations import kept_by_encoder, kept_by_language_model
from langbridge.train.plan.shapes import shapes_of
from langbridge.train.recipe import ALL_LINEAR, Recipe
from langbridge.train.sharding import blocks_of

Sharding = Literal["none", "zero2", "zero3", "fsdp"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the bridge on one GPU; memory in bytes."""

    name: str
    parameters: int = 0
    """In all, on all GPUs together."""
    trained: int = 0
    """Of these, the trained ones."""
    weights: int = 0
    gradients: int = 0
    optimiser: int = 0
    activations: int = 0

    @property
    def memory(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations


class Layout:
    """The bridge of a recipe without its weights, and what each part of it takes."""

    def __init__(self, recipe: Recipe, gpus: int, sharding: Sharding) -> None:
        self.recipe, self.gpus, self.sharding = recipe, gpus, sharding
        self.notes: list[str] = []
        self.lm_config = self._config(recipe.language_model, "language model")
        check_language_model(self.lm_config, recipe.language_model)
        self.lm_dtype = self._dtype(self.lm_config, "language model")
        self.bridge: LangBridgeModel | None = None
        if recipe.encoder is not None:
            self.encoder_config = self._config(recipe.encoder, "encoder")
            check_encoder(self.encoder_config, recipe.encoder)
            self.encoder_dtype = self._dtype(self.encoder_config, "encoder")
            with torch.device("meta"):
                self.bridge = LangBridgeModel(
                    LangBridgeConfig(
                        encoder_config=self.encoder_config,
                        text_config=self.lm_config,
                        connector=recipe.connector,
                        freeze_encoder=bool(recipe.freeze_encoder),
                    )
                )
            self.lm: PreTrainedModel = self.bridge.language_model
            self.encoder_length = min(recipe.max_encoder_length, self.bridge.encoder_length_limit or sys.maxsize)
        else:
            with torch.device("meta"):
                self.lm = AutoModelForCausalLM.from_config(self.lm_config)
        self.lm.requires_grad_(recipe.regime == "lm_only")
        if recipe.lora.r:
            untie_adapted(self.lm, recipe.lora.target_names)

    def _config(self, source: str, role: str) -> PreTrainedConfig:
        config, origin = shapes_of(source, role)
        self.notes.append(f"{role}: {source}, shapes from {origin}")
        return config

    def _dtype(self, config: PreTrainedConfig, role: str) -> torch.dtype:
        """The precision of a base where it is frozen."""
        if self.recipe.dtype != "auto":
            return getattr(torch, self.recipe.dtype)
        saved = config.dtype or torch.float32
        self.notes.append(f"{role}: in {saved}, as saved; dtype auto takes float32 on a machine that is slow in that")
        return saved

    def parts(self) -> tuple[Part, ...]:
        """Every part of the bridge, the logits, and what sharding gathers for a moment. Adds to `notes` as it goes."""
        if self.recipe.train.max_steps == 0:
            self.notes.append(
                "no step: the models' weights alone are counted, not what the closed-form start is solved in"
            )
            return tuple(
                dataclasses.replace(part, gradients=0, optimiser=0, activations=0) for part in self._model_parts()
            )
        parts = [*self._model_parts(), self._logits()]
        if self.sharding in ("zero3", "fsdp"):
            parts.append(Part(name="gathered", weights=self._gathered()))
            self.notes.append(
                "gathered: two of the largest blocks, and what belongs to no block, whole in the precision of "
                "computation"
            )
        self.notes += [
            f"activations: {self._rows_at_once()} rows at once, every one as long as the "
            f"recipe allows{', recomputed block by block' if self.recipe.train.activation_checkpointing else ''}",
            "not counted: the driver's own memory, communication buffers of sharding, fragmentation",
        ]
        return tuple(parts)

    def resume_state(self) -> int:
        """Bytes of the optimiser's state in a checkpoint."""
        if self.recipe.train.max_steps == 0:
            return 0
        return sum(self._optimiser_bytes(parameter) for parameter in self._trained_shapes())

    # Parameters

    def _model_parts(self) -> list[Part]:
        parts = []
        if self.bridge is not None:
            encoder, connector = list(self.bridge.encoder.parameters()), list(self.bridge.connector.parameters())
            parts.append(
                self._part("encoder", encoder, frozen=self.encoder_dtype, activations=self._encoder_activations())
            )
            parts.append(self._part("connector", connector))
            if self._new_rows.numel():
                parts.append(self._part("new rows", [self._new_rows]))
        lm = list(self.lm.parameters())
        parts.append(self._part("language model", lm, frozen=self.lm_dtype, activations=self._lm_activations()))
        if self._adapters:
            parts.append(self._part("adapters", self._adapters))
        return parts

    def _part(
        self, name: str, parameters: list[nn.Parameter], frozen: torch.dtype = torch.float32, activations: int = 0
    ) -> Part:
        trained = [p for p in parameters if p.requires_grad]
        total, learned = sum(p.numel() for p in parameters), sum(p.numel() for p in trained)
        deepspeed = self.sharding in ("zero2", "zero3")
        # DeepSpeed's bf16 casts the whole model, and keeps a float32 master copy of what it trains.
        halved = deepspeed and self.recipe.train.bf16
        frozen_bytes = 2 if halved else frozen.itemsize
        weights = (total - learned) * frozen_bytes + learned * (2 if halved else 4)
        gradients = learned * (2 if halved else 4)
        optimiser = sum(self._optimiser_bytes(p) for p in trained) + (4 * learned if halved else 0)
        if self.sharding == "none" and self.gpus > 1:
            gradients *= 2  # the buckets that data parallelism reduces are beside the gradients
        split_weights = self.sharding in ("zero3", "fsdp")
        split_states = self.sharding != "none"
        return Part(
            name=name,
            parameters=total,
            trained=learned,
            weights=self._share(weights) if split_weights else weights,
            gradients=self._share(gradients) if split_states else gradients,
            optimiser=self._share(optimiser) if split_states else optimiser,
            activations=activations,
        )

    def _share(self, size: int) -> int:
        return math.ceil(size / self.gpus)

    def _optimiser_bytes(self, parameter: nn.Parameter) -> int:
        if self.recipe.train.optim == "adafactor" and parameter.ndim >= 2:
            return 4 * (parameter.numel() // parameter.shape[-1] + parameter.numel() // parameter.shape[-2])
        return 4 * parameter.numel() * (1 if self.recipe.train.optim == "adafactor" else 2)

    def _trained_shapes(self) -> list[nn.Parameter]:
        model = self.lm if self.bridge is None else self.bridge
        return [p for p in [*model.parameters(), self._new_rows, *self._adapters] if p.requires_grad]

    @property
    def _new_rows(self) -> nn.Parameter:
        """The rows for white space that the encoder's tokenizer loses; whether they are trained, the data decide."""
        if not hasattr(self, "_rows"):
            count, source = 0, self.recipe.encoder
            if self.bridge is not None and source is not None:
                tokenizer = load_tokenizer(source, required=False) if Path(source).is_dir() else None
                if tokenizer is not None:
                    count = len(whitespace_ids(tokenizer))
                elif self.encoder_config.model_type in ("t5", "mt5", "umt5"):
                    count = len(WHITESPACE)
            trained = bool(count) and (not self.recipe.freeze_encoder or self._template_has_space)
            if trained and self.recipe.freeze_encoder:
                self.notes.append("new rows: trained, because the template holds white space that the encoder loses")
            elif count and not trained:
                self.notes.append(
                    "new rows: not trained, supposing that no prompt holds white space that they stand for"
                )
            width = 0 if self.bridge is None else self.bridge.encoder.get_input_embeddings().embedding_dim
            self._rows = nn.Parameter(torch.empty(count, width, device="meta"), requires_grad=trained)
        return self._rows

    @property
    def _template_has_space(self) -> bool:
        return self.recipe.template_in == "encoder" and any(space in self.recipe.template for space in WHITESPACE)

    @property
    def _adapters(self) -> list[nn.Parameter]:
        shapes = [layer.weight.shape for _, layer in self._adapted]
        return [nn.Parameter(torch.empty(self.recipe.lora.r, sum(shape), device="meta")) for shape in shapes]

    @property
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
            return [
                (name, layer) for name, layer in layers if layer is not head and not isinstance(layer, nn.Embedding)
            ]
        return [(name, layer) for name, layer in layers if is_named(name, names)]

    # Activations

    def _encoder_activations(self) -> int:
        assert self.bridge is not None
        trained = not self.recipe.freeze_encoder
        if not trained and not self._new_rows.requires_grad:
            return 0  # it runs without gradient
        kept = kept_by_encoder(
            self.encoder_config,
            self._rows_at_once(),
            self.encoder_length,
            dtype=torch.float32 if trained else self.encoder_dtype,
            bf16=self.recipe.train.bf16,
            trained=trained,
        )
        return self._recomputed(kept, self.bridge.encoder, self.encoder_dtype, self.encoder_length)

    def _lm_activations(self) -> int:
        whole = self.recipe.regime == "lm_only"
        kept = kept_by_language_model(
            self.lm_config,
            self._rows_at_once(),
            self.recipe.max_length,
            dtype=torch.float32 if whole else self.lm_dtype,
            bf16=self.recipe.train.bf16,
            trained=None if whole else frozenset(name for name, _ in self._adapted),
        )
        return self._recomputed(kept, self.lm, self.lm_dtype, self.recipe.max_length)

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
        inputs = len(blocks) * self._rows_at_once() * length * width * stream
        return min(kept, inputs + kept // max(len(blocks), 1))

    def _logits(self) -> Part:
        recipe = self.recipe
        targets = recipe.max_length - 1
        if self.bridge is not None:
            shortest = recipe.min_encoder_length if recipe.regime == "unlabelled" else 1
            targets = recipe.max_length - recipe.connector.soft_length(shortest) - LEAST_AROUND
        targets *= self._rows_at_once()
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
        return Part(name="logits", activations=kept + targets * vocabulary * bytes_each)

    def _gathered(self) -> int:
        """What a GPU holds whole for a moment, where the weights are cut up."""
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
