"""The answers of a language model to the prompts of a run, which it reads as its own tokens; made once, and kept.

RUN/answers-KEY.jsonl   a line a prompt; KEY is a hash of all that answers depend on, so others have another file
"""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from langbridge.data.teaching import teacher_heads
from langbridge.files import read_jsonl, write_jsonl
from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.model.bases import base_fingerprint
from langbridge.model.language_models import end_ids
from langbridge.train.console import Tell

KEPT_EVERY = 60.0
"""Seconds between two writings of what is answered."""


def answers_to(
    prompts: Iterable[str],
    model: LangBridgeModel,
    processor: LangBridgeProcessor,
    *,
    max_length: int,
    batch: int,
    folder: Path,
    tell: Tell,
) -> dict[str, str]:
    """The language model's greedy answer to every prompt in its template. Those that the file in `folder` has are not
    made again; it is written as they come, all or nothing. Every process calls this alike and makes a share.

    max_length: of a prompt and its answer together, in tokens. batch: prompts at a time.
    """
    file = folder / f"answers-{_key(model, processor, max_length)}.jsonl"
    found = {row["prompt"]: row["answer"] for _, row in read_jsonl(file)} if file.is_file() else {}
    wanted = list(dict.fromkeys(prompts))
    missing = sorted((prompt for prompt in wanted if prompt not in found), key=len)  # batches that pad little
    state, written, known = PartialState(), time.monotonic(), len(found)
    if missing:
        tell(f"the language model answers {len(missing)} prompts, {len(wanted) - len(missing)} are answered: {file}")

    def keep() -> None:
        if state.is_main_process and len(found) > known:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(file, ({"prompt": prompt, "answer": answer} for prompt, answer in found.items()))

    try:
        for first in range(0, len(missing), batch * state.num_processes):
            mine = missing[first + batch * state.process_index :][:batch]
            found |= dict(gather_object(_answered(mine, model, processor, max_length)))
            if time.monotonic() - written > KEPT_EVERY:
                keep()
                written, known = time.monotonic(), len(found)
    finally:
        keep()
    return {prompt: found[prompt] for prompt in wanted}


@torch.no_grad()
def _answered(
    prompts: Sequence[str], model: LangBridgeModel, processor: LangBridgeProcessor, max_length: int
) -> list[tuple[str, str]]:
    if not prompts:
        return []
    language_model = model.language_model
    heads = [row.ids for row in teacher_heads(processor, prompts, processor.layout)]
    pad, _ = processor.pad_ids
    width = max(map(len, heads))
    device = language_model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad] * (width - len(head)) + head for head in heads], device=device)
    mask = torch.tensor([[0] * (width - len(head)) + [1] * len(head) for head in heads], device=device)
    ends = {*end_ids(language_model.generation_config), processor.answer_end_id, processor.tokenizer.eos_token_id}
    was_training = language_model.training
    language_model.eval()
    sequences = language_model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_length - min(map(len, heads)) - 1,  # and its end
        pad_token_id=pad,
        eos_token_id=sorted(end for end in ends if end is not None),
    )
    language_model.train(was_training)
    answers = []
    for prompt, head, new in zip(prompts, heads, sequences[:, width:].tolist(), strict=True):
        # As long as there is room behind this prompt, whichever others it was answered with.
        new = new[: max_length - len(head) - 1]
        end = next((place for place, token in enumerate(new) if token in ends), len(new))
        answers.append((prompt, processor.decode(new[:end])))
    return answers


def _key(model: LangBridgeModel, processor: LangBridgeProcessor, max_length: int) -> str:
    about = [
        base_fingerprint(model.language_model),
        model.language_model.generation_config.to_diff_dict(),
        asdict(processor.layout),
        max_length,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:12]
