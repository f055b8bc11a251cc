"""Real training steps at the size of a paper pair on one GPU: memory, examples a second, share of the GPU's peak.

    python benchmarks/gpu_step.py [--encoder ID] [--language-model ID] [--train-encoder] [--peak-tflops N]

Shapes of mT5-XL's encoder and Llama 2 7B by default, random weights, bfloat16; the connector alone is trained, or the
encoder too. Every row has the full length, so that there is no padding to be clever about. Model FLOP utilisation is
what the step must compute (2 operations a weight and token forward, 2 more for each gradient that is asked for, and
attention) over what the GPU could at its peak in bfloat16, which is yours to say. The last line is one JSON document.
Without CUDA it says so and ends with exit code 2.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from langbridge.files import write_atomically
from langbridge.model import LangBridgeConfig, LangBridgeModel
from langbridge.model.language_models import remove_dropout
from langbridge.train.plan import GIB
from langbridge.train.plan.shapes import shapes_of


def build(options: argparse.Namespace) -> LangBridgeModel:
    """The pair on the GPU in bfloat16, the connector in float32, as in a run."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        encoder, _ = shapes_of(options.encoder, "encoder")
        language_model, _ = shapes_of(options.language_model, "language model")
        model = LangBridgeModel(
            LangBridgeConfig(
                encoder_config=encoder,
                text_config=language_model,
                soft_prompt_token_id=0,
                freeze_encoder=not options.train_encoder,
            )
        )
    torch.set_default_dtype(torch.float32)
    model.connector.float()
    if options.train_encoder:
        model.encoder.float()  # what is trained is kept in float32
        remove_dropout(model.encoder)
    if options.activation_checkpointing:
        model.gradient_checkpointing_enable()
    return model.train()


def make_batch(model: LangBridgeModel, rows: int, src: int, tgt: int) -> dict[str, torch.Tensor]:
    """Rows of `src` encoder tokens and `tgt` target tokens: BOS, placeholders, the end vector's, targets."""
    ids = torch.full((rows, 1 + src + 1 + tgt), 5)
    ids[:, 0] = 1
    ids[:, 1 : src + 2] = model.config.soft_prompt_token_id
    labels = ids.clone()
    labels[:, : src + 2] = -100
    batch = {
        "encoder_input_ids": torch.full((rows, src), 5),
        "encoder_attention_mask": torch.ones(rows, src, dtype=torch.long),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
    }
    return {name: tensor.cuda() for name, tensor in batch.items()}


def operations(model: LangBridgeModel, rows: int, src: int, tgt: int) -> float:
    """Operations that one step must do, recomputation apart (Chowdhery et al., PaLM, arXiv 2204.02311, appendix B)."""
    seq, lm, encoder = src + tgt + 2, model.language_model, model.encoder
    body = sum(p.numel() for p in lm.parameters()) - lm.get_input_embeddings().weight.numel()
    head = lm.get_output_embeddings().weight.numel()
    reader = sum(p.numel() for p in encoder.parameters()) - encoder.get_input_embeddings().weight.numel()
    # Forward, and the gradient of what each layer read; the frozen weights' own gradients are not computed.
    total = rows * 4.0 * (seq * (body - head) + tgt * head)
    # The language model's attention, forward and twice as much back; causal, so half of the scores.
    total += rows * lm.config.num_hidden_layers * 3 * 4.0 * seq * seq * lm.config.hidden_size / 2
    total += rows * src * reader * (6.0 if any(p.requires_grad for p in encoder.parameters()) else 2.0)
    return total + rows * src * 6.0 * sum(p.numel() for p in model.connector.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="DKYoon/mt5-xl-lm-adapt")
    parser.add_argument("--language-model", default="meta-llama/Llama-2-7b-hf")
    parser.add_argument("--train-encoder", action="store_true")
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--src", type=int, default=512)
    parser.add_argument("--tgt", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--peak-tflops", type=float, help="the GPU's peak in bfloat16, dense, from its data sheet")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_step: there is no CUDA device here; run it on a machine with one", file=sys.stderr)
        sys.exit(2)

    model = build(options)
    batch = make_batch(model, options.rows, options.src, options.tgt)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=6e-4, fused=True)
    seconds = []
    for _ in range(options.steps + 3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    took = statistics.median(seconds[3:])  # the first steps allocate and choose kernels
    done = operations(model, options.rows, options.src, options.tgt) / took
    result = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        **{key: value for key, value in vars(options).items() if key != "out"},
        "seconds_per_step": took,
        "examples_per_second": options.rows / took,
        "tokens_per_second": options.rows * (options.src + options.tgt + 2) / took,
        "peak_gib": torch.cuda.max_memory_allocated() / GIB,
        "tflops": done / 1e12,
        "model_flop_utilisation": None if options.peak_tflops is None else done / 1e12 / options.peak_tflops,
    }
    document = json.dumps(result)
    if options.out:
        write_atomically(options.out, document + "\n")
    print(document)


if __name__ == "__main__":
    main()
