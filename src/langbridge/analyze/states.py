"""One vector a sentence at every stage of a bridge, and of its language model alone: the mean over the sentence's own
tokens.

Padding, special tokens, the template and the end vector are left out of the mean, because they are the same in every
language and would make states look alike. Memory is bounded by one batch of hidden states: the means, 4 bytes a number,
go to files, and are read back a stage at a time.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from langbridge.analyze.corpus import Corpus
from langbridge.errors import LangBridgeError
from langbridge.model.language_marks import knows_language, mark_languages
from langbridge.model.language_models import positions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from langbridge.model import LangBridgeModel, LangBridgeProcessor

BRIDGE, LM = "bridge", "lm"
STAGE_FILE = re.compile(rf"({BRIDGE}|{LM})_(encoder|soft_prompts|embeddings|layer_\d+)\.npy")
"""Every name that `Stage.file` may give."""
LONGEST = 1024
"""Tokens of a sentence, template included; the rest is cut, and counted. The paper's longest encoder input."""


@dataclass(frozen=True, order=True)
class Stage:
    """A place in a model. `layer` is -1 for the encoder, 0 for what the language model's first layer reads (soft
    prompts, or the embeddings of its own tokens), else the layer whose output it is. The last one's output is taken
    after the final norm, where transformers has it."""

    model: str
    layer: int

    @property
    def name(self) -> str:
        if self.layer == -1:
            return "encoder"
        if self.layer == 0:
            return "soft prompts" if self.model == BRIDGE else "embeddings"
        return f"layer {self.layer}"

    @property
    def file(self) -> str:
        return f"{self.model}_{self.name.replace(' ', '_')}.npy"


@dataclass(frozen=True)
class PooledStates:
    """The files of all stages in a folder, each (sentences, languages, width) float32."""

    folder: Path
    stages: tuple[Stage, ...]
    cut: dict[str, dict[str, int]] = field(default_factory=dict)
    """By model and language: how many sentences were longer than the model's limit."""
    tokens: dict[str, dict[str, float]] = field(default_factory=dict)
    """By model and language: tokens of a sentence, the mean."""

    def load(self, stage: Stage) -> np.ndarray:
        return np.load(self.folder / stage.file)


@dataclass(frozen=True)
class Tokens:
    """A text in its template in a model's tokens, and which of them are the text's own."""

    ids: list[int]
    own: list[bool]
    cut: bool


def pool_states(
    model: "LangBridgeModel",
    processor: "LangBridgeProcessor",
    corpus: Corpus,
    folder: str | Path,
    *,
    batch_size: int = 8,
    progress: Callable[[int], object] | None = None,
) -> PooledStates:
    """Run every sentence through the bridge, and through its language model alone, and keep the means in `folder`.

    Both read the sentence in the bridge's template. `progress` is called with the number of texts done, twice as many
    as the corpus has. Raises `LangBridgeError`.
    """
    if batch_size < 1:
        raise LangBridgeError(f"batch_size: expected at least 1, got {batch_size}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    stages: list[Stage] = []
    cut: dict[str, dict[str, int]] = {}
    tokens: dict[str, dict[str, float]] = {}
    for name, run in ((BRIDGE, _BridgeReader(model, processor)), (LM, _LanguageModelReader(model, processor))):
        counted = {code: [0, 0] for code in corpus.languages}
        files: list[np.memmap] = []
        for items in _batches(corpus, run, batch_size):
            texts = [corpus.texts[language][sentence] for sentence, language in items]
            codes = [corpus.languages[language] for _, language in items]
            rows = run.tokens(texts, codes)
            for (sentence, language), row in zip(items, rows, strict=True):
                code = corpus.languages[language]
                if not any(row.own):
                    raise LangBridgeError(
                        f"corpus, id {corpus.ids[sentence]!r}, language {code!r}: the {run.role}'s tokenizer "
                        f"{'cuts it away' if row.cut else 'leaves nothing of it'}: "
                        f"{corpus.texts[language][sentence]!r}; leave the sentence or the language out"
                    )
                counted[code][0] += row.cut
                counted[code][1] += sum(row.own)
            with torch.inference_mode():
                pooled = run.pooled(texts, codes, rows)
            if not files:
                found = [Stage(name, layer + run.first_layer) for layer in range(len(pooled))]
                stages += found
                files = [
                    np.lib.format.open_memmap(
                        folder / stage.file,
                        mode="w+",
                        dtype=np.float32,
                        shape=(len(corpus), len(corpus.languages), means.shape[-1]),
                    )
                    for stage, means in zip(found, pooled, strict=True)
                ]
            where = tuple(np.array(items).T)
            for stage, file, means in zip(found, files, pooled, strict=True):
                if not bool(means.isfinite().all()):
                    raise LangBridgeError(
                        f"{stage.model}, {stage.name}: states are not finite numbers; load the models in "
                        "bfloat16 or float32 (mT5 overflows in float16)"
                    )
                file[where] = means.cpu().numpy()
            if progress is not None:
                progress(len(items))
        for file in files:
            file.flush()
        cut[name] = {code: number for code, (number, _) in counted.items() if number}
        tokens[name] = {code: number / len(corpus) for code, (_, number) in counted.items()}
    return PooledStates(folder, tuple(stages), cut, tokens)


def _batches(
    corpus: Corpus, run: "_BridgeReader | _LanguageModelReader", batch_size: int
) -> Iterator[list[tuple[int, int]]]:
    """(sentence, language) of every text, sorted by length, the longest first: memory runs out in the first batch or
    never. In tokens, which are tens of times quicker to count than padding is to compute: by bytes four positions in
    ten were padding, with a tokenizer that knew some of the scripts and spelled out the others."""
    sizes = [
        (len(row.ids), sentence, language)
        for language, texts in enumerate(corpus.texts)
        for sentence, row in enumerate(run.tokens(texts, [corpus.languages[language]] * len(texts)))
    ]
    items = [(sentence, language) for _, sentence, language in sorted(sizes, reverse=True)]
    for start in range(0, len(items), batch_size):
        yield items[start : start + batch_size]


class _BridgeReader:
    """Means at the encoder, the soft prompts and every layer of the language model behind them."""

    role, first_layer = "encoder", -1

    def __init__(self, model: "LangBridgeModel", processor: "LangBridgeProcessor"):
        self.model, self.processor = model, processor
        limits = [LONGEST, model.encoder_length_limit]
        total = positions(model.language_model.config)
        if total is not None:
            limits.append(processor.tokens.source_in(total - processor.own_length))
        self.limit = min(limit for limit in limits if limit is not None)

    def tokens(self, texts: Sequence[str], languages: Sequence[str]) -> list[Tokens]:
        return encoder_tokens(self.processor, texts, self.limit, self._known(languages))

    def _known(self, languages: Sequence[str]) -> list[str | None]:
        """The languages that the encoder has marks for; the others are read as English."""
        tokenizer = self.processor.encoder_tokenizer
        known = {code: knows_language(tokenizer, code) for code in set(languages)}
        return [code if known[code] else None for code in languages]

    def pooled(self, texts: Sequence[str], languages: Sequence[str], rows: Sequence[Tokens]) -> list[Tensor]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="prompts of rows")  # cuts are counted by language
            batch = self.processor(
                list(texts),
                truncation="encoder",
                max_encoder_length=self.limit,
                padding_side="right",
                source_language=self._known(languages),
            ).to(self.model.device)
        ids, mask = batch["encoder_input_ids"], batch["encoder_attention_mask"]
        read = [row[:length].tolist() for row, length in zip(ids, mask.sum(1), strict=True)]
        assert read == [row.ids for row in rows], "one reading"
        own = _mask([row.own for row in rows], ids.shape[1], ids.device)
        states = self.model.encode(ids, mask)
        memory = self.model.connect(states, self.model.spoken(ids, mask))
        soft, real = memory.soft_prompts[:, :-1], memory.mask[:, :-1].bool()
        # Where soft prompts belong to no token, all of them count.
        own_soft = own.to(real.device) & real if self.processor.connector.token_aligned else real
        places = (batch["input_ids"] == self.processor.soft_prompt_token_id) & batch["attention_mask"].bool()
        own_seq = torch.zeros_like(places)
        for row in range(len(rows)):
            filled = places[row].nonzero().squeeze(1)[:-1]  # without the end vector
            own_seq[row, filled] = own_soft[row, real[row]].to(places.device)
        # Padded on the right, no causal model sees a pad before its text, and positions count from 0 as they should:
        # so no mask, which would cost a third of the time.
        output = self.model(
            input_ids=batch["input_ids"],
            memory=memory,
            soft_prompt_positions=places,
            output_hidden_states=True,
            use_cache=False,
            logits_to_keep=1,
        )
        assert output.hidden_states is not None, "asked for above"
        return [
            _mean(states, own),
            _mean(soft, own_soft),
            *(_mean(layer, own_seq) for layer in output.hidden_states[1:]),
        ]


class _LanguageModelReader:
    """Means at the embeddings and every layer of the language model, which reads the text as its own tokens."""

    role, first_layer = "language model", 0

    def __init__(self, model: "LangBridgeModel", processor: "LangBridgeProcessor"):
        self.model, self.tokenizer = model.language_model, processor.tokenizer
        self.limit = min(LONGEST, positions(model.language_model.config) or LONGEST)
        self.template = processor.layout

    def tokens(self, texts: Sequence[str], languages: Sequence[str]) -> list[Tokens]:
        template = self.template
        return _tokens(self.tokenizer, texts, template.around, self.limit, self.role, special=not template.begins)

    def pooled(self, texts: Sequence[str], languages: Sequence[str], rows: Sequence[Tokens]) -> list[Tensor]:
        device = self.model.device
        width = max(len(row.ids) for row in rows)
        ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows], device=device)
        # No mask, as above; and no head, because no logits are needed.
        output = self.model.base_model(input_ids=ids, output_hidden_states=True, use_cache=False)
        own = _mask([row.own for row in rows], width, device)
        return [_mean(layer, own) for layer in output.hidden_states]


def encoder_tokens(
    processor: "LangBridgeProcessor",
    texts: Sequence[str],
    limit: int | None,
    languages: Sequence[str | None] | None = None,
) -> list[Tokens]:
    """What the encoder reads of each text, cut at `limit` tokens, special ones included. Raises `LangBridgeError` where
    the tokenizer does not say which characters a token covers."""
    tokenizer = processor.encoder_tokenizer
    found = _tokens(tokenizer, texts, processor.layout.source, limit, _BridgeReader.role)
    marked = mark_languages(tokenizer, [one.ids for one in found], list(languages or [None] * len(found)))
    return [replace(one, ids=ids) for one, ids in zip(found, marked, strict=True)]


def _tokens(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    around: tuple[str, str],
    limit: int | None,
    role: str,
    special: bool = True,
) -> list[Tokens]:
    """Each text in its template as tokens; a token is the text's own where it covers a character of it. special: the
    tokenizer adds its special tokens."""
    if not tokenizer.is_fast:
        raise LangBridgeError(
            f"{role}: its tokenizer ({type(tokenizer).__name__}) does not say which characters a token covers, so text "
            "and template cannot be told apart; expected a fast tokenizer (one with a tokenizer.json)"
        )
    before, after = around
    options: dict[str, Any] = {"return_offsets_mapping": True, "add_special_tokens": special, "verbose": False}
    found = []
    for text in texts:
        whole = tokenizer(before + text + after, **options)
        cut = limit is not None and len(whole["input_ids"]) > limit
        if cut:
            whole = tokenizer(before + text + after, truncation=True, max_length=limit, **options)
        first, last = len(before), len(before) + len(text)
        own = [max(start, first) < min(end, last) for start, end in whole["offset_mapping"]]
        found.append(Tokens(whole["input_ids"], own, cut))
    return found


def _mask(rows: Sequence[list[bool]], width: int, device: Any) -> Tensor:
    return torch.tensor([row + [False] * (width - len(row)) for row in rows], device=device)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """(batch, seq, width) over (batch, seq), in float32."""
    weights = mask.to(states.device, torch.float32)
    return torch.bmm((weights / weights.sum(1, keepdim=True))[:, None], states.float()).squeeze(1)
