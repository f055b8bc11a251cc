"""Tiny random models of many types: every one at most 64 wide."""

from typing import Any

import torch
import transformers as hf

from langbridge.model import LangBridgeModel
from langbridge.model.encoders import build_encoder

VOCAB = 96
PLACEHOLDER = 95

ENCODERS = ("mt5", "umt5", "t5", "m2m_100", "xlm-roberta", "modernbert", "t5gemma")
LANGUAGE_MODELS = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gemma3",
    "opt",
    "gpt2",
    "bloom",
)


def encoder_config(kind: str) -> Any:
    small = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    if kind in ("mt5", "umt5", "t5"):
        return hf.AutoConfig.for_model(
            kind,
            vocab_size=VOCAB,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        )
    if kind == "m2m_100":
        return hf.M2M100Config(
            vocab_size=VOCAB,
            d_model=32,
            encoder_layers=2,
            decoder_layers=1,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            max_position_embeddings=64,
        )
    if kind == "xlm-roberta":
        return hf.XLMRobertaConfig(**small, max_position_embeddings=42)
    if kind == "modernbert":
        return hf.ModernBertConfig(
            **small, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2
        )
    assert kind == "t5gemma"
    half = {**small, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}
    return hf.T5GemmaConfig(encoder=half, decoder=half, vocab_size=VOCAB)


def language_model_config(kind: str) -> Any:
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "opt":
        return hf.OPTConfig(
            vocab_size=VOCAB,
            hidden_size=48,
            word_embed_proj_dim=24,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            **ids,
        )
    if kind == "gpt2":
        return hf.GPT2Config(vocab_size=VOCAB, n_embd=48, n_layer=2, n_head=4, n_positions=128, **ids)
    if kind == "bloom":
        return hf.BloomConfig(vocab_size=VOCAB, hidden_size=48, n_layer=2, n_head=4, **ids)
    if kind == "gemma3":  # of text and images: its text model's config is in it
        image = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        return hf.Gemma3Config(
            text_config=language_model_config("gemma3_text"),
            vision_config={**image, "image_size": 28, "patch_size": 14},
            mm_tokens_per_image=4,
            image_token_index=90,
            boi_token_index=91,
            eoi_token_index=92,
        )
    return hf.AutoConfig.for_model(
        kind,
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=128,
        **ids,
    )


def make_encoder(kind: str = "mt5") -> Any:
    """An encoder, or the encoder-decoder around it where transformers has no class for the encoder alone."""
    config = encoder_config(kind)
    if kind == "t5gemma":
        return hf.T5GemmaModel(config).eval()
    return build_encoder(config).eval()


def make_language_model(kind: str = "llama") -> Any:
    torch.manual_seed(1)
    model = hf.AutoModelForCausalLM.from_config(language_model_config(kind)).eval()
    with torch.no_grad():  # a fresh model repeats itself whatever it reads; a louder one does not
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def make_bridge(encoder: str = "mt5", language_model: str = "llama", **kwargs: Any) -> LangBridgeModel:
    torch.manual_seed(0)
    first = make_encoder(encoder)
    bridge = LangBridgeModel.from_bases(
        first, make_language_model(language_model), soft_prompt_token_id=PLACEHOLDER, **kwargs
    )
    with torch.no_grad():  # the connector speaks loudly, or all rows would read alike
        for parameter in bridge.connector.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return bridge


def make_batch(
    bridge: LangBridgeModel,
    lengths: tuple[int, ...] = (9, 4, 6),
    text: int = 3,
    side: str = "left",
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Random rows with `lengths` encoder tokens, laid out as the processor does: BOS, placeholders, `text`
    tokens of the language model."""
    generator = torch.Generator().manual_seed(seed)
    sources = [torch.randint(5, 90, (n,), generator=generator) for n in lengths]
    soft = [n + 1 for n in map(bridge.config.connector.soft_length, lengths)]
    rows = [
        torch.cat([torch.tensor([1] + [PLACEHOLDER] * n), torch.randint(5, 90, (text + i,), generator=generator)])
        for i, n in enumerate(soft)
    ]
    pad_id = bridge.config.encoder_config.pad_token_id or 0
    batch = {}
    batch["encoder_input_ids"], batch["encoder_attention_mask"] = _stack(sources, pad_id, "right")
    batch["input_ids"], batch["attention_mask"] = _stack(rows, 0, side)
    return batch


def one_row(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """A row alone, without padding."""
    out = {}
    for ids, mask in (("encoder_input_ids", "encoder_attention_mask"), ("input_ids", "attention_mask")):
        keep = batch[mask][row].bool()
        out[ids], out[mask] = batch[ids][row][keep][None], batch[mask][row][keep][None]
    return out


def _stack(rows: list[torch.Tensor], pad: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, where], mask[i, where] = row, 1
    return ids, mask
