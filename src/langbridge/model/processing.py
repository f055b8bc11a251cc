"""The processor: text in, both models' inputs out, and the one place where a sequence is laid out.

    [BOS] [template text before]* [placeholder] x soft prompts [placeholder for the end vector] [template text
    after]* [lm_prefix] [target] [EOS]

(* only with `template_in="lm"`.) Pads stand outside the sequence, never in it. The prompt template belongs here and is
saved here: training, generation, evaluation and serving all format through `LangBridgeProcessor.format`. The processor
works without the model; what it needs of it is in its own config.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AddedToken,
    AutoTokenizer,
    BatchFeature,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from langbridge.errors import LangBridgeError
from langbridge.model.configuration import IGNORE, LangBridgeConfig, soft_length
from langbridge.model.encoders import check_encoder, check_language_model, config_length_limit, load_config
from langbridge.model.language_marks import mark_languages, marks_of

WHITESPACE = ("\t", "\n", "\r", "\x0b", "\x0c", "  ", "   ", "    ")
"""The whitespace that code and templates need and that mT5's tokenizer drops (LangBridge, appendix D.1)."""

_FIELD = "{prompt}"
_TRUNCATIONS = (False, True, "encoder", "target")
# Texts of tokens that stand for bytes which UTF-8 never contains, as sentencepiece and byte-level BPE write
# them: no text tokenises to them.
_IMPOSSIBLE = ("<0xFF>", "<0xFE>", "<0xC0>", "<0xC1>", "ÿ", "þ", "ý", "ü", "À", "Á")


class LangBridgeProcessor(ProcessorMixin):
    """Two tokenizers, one template, one layout.

    tokenizer: the language model's. encoder_tokenizer: the encoder's.
    template: text with `{prompt}` in it once. template_in: `encoder` sends the whole templated prompt through
        the encoder (the paper's way); `lm` sends the prompt alone, and gives the text around it to the
        language model as its own tokens.
    connector, num_latents: decide how many placeholders a prompt gets.
    soft_prompt_token_id: the placeholder. new_token_ids: what the model must have rows for.
        encoder_length_limit: the encoder's hard limit in tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encoder_tokenizer: PreTrainedTokenizerBase,
        template: str = _FIELD,
        template_in: str = "encoder",
        connector: str = "linear",
        num_latents: int = 64,
        soft_prompt_token_id: int | None = None,
        encoder_length_limit: int | None = None,
        new_token_ids: list[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(tokenizer, encoder_tokenizer, **kwargs)
        if template.count(_FIELD) != 1:
            raise LangBridgeError(f"template: got {template!r}, expected text that contains {_FIELD} exactly once")
        if template_in not in ("encoder", "lm"):
            raise LangBridgeError(f"template_in: got {template_in!r}, expected 'encoder' or 'lm'")
        self.template, self.template_in = template, template_in
        self.connector, self.num_latents = connector, num_latents
        if soft_prompt_token_id is None:
            soft_prompt_token_id = choose_placeholder(None, len(tokenizer), tokenizer)
        self.soft_prompt_token_id = soft_prompt_token_id
        self.encoder_length_limit = encoder_length_limit
        self.new_token_ids = list(new_token_ids or [])

    @classmethod
    def from_bases(
        cls,
        encoder: Any,
        language_model: Any,
        config: LangBridgeConfig | None = None,
        *,
        model: Any = None,
        template: str = _FIELD,
        template_in: str = "encoder",
        connector: str = "linear",
        num_latents: int = 64,
    ) -> "LangBridgeProcessor":
        """The processor of a bridge between two bases (folders or hub ids).

        Where there is a bridge already, its `config` (or the `model` itself) decides the layout.
        """
        if config is None and model is not None:
            config = model.config
        tokenizer, encoder_tokenizer = load_tokenizer(language_model), load_tokenizer(encoder)
        if config is None:
            encoder_config, text_config = (
                load_config(encoder, "encoder"),
                load_config(language_model, "language model"),
            )
            check_encoder(encoder_config, repr(str(encoder)))
            check_language_model(text_config, repr(str(language_model)))
            placeholder: int | None = choose_placeholder(
                text_config, text_config.get_text_config().vocab_size, tokenizer
            )
            wanted = whitespace_ids(encoder_tokenizer)
        else:
            encoder_config, connector, num_latents = (
                config.encoder_config,
                config.connector,
                config.num_latents,
            )
            placeholder, wanted = config.soft_prompt_token_id, list(config.new_token_ids or [])
            added = whitespace_ids(encoder_tokenizer) if wanted else []
            if added != wanted:
                raise LangBridgeError(
                    f"encoder tokenizer: {str(encoder)!r} gives the whitespace tokens the ids {added}, but "
                    f"the bridge has embedding rows for {wanted}; "
                    "use the tokenizer that the bridge was built with, or build bridge and processor "
                    "together with build_bridge"
                )
        return cls(
            tokenizer,
            encoder_tokenizer,
            template=template,
            template_in=template_in,
            connector=connector,
            num_latents=num_latents,
            soft_prompt_token_id=placeholder,
            encoder_length_limit=config_length_limit(encoder_config),
            new_token_ids=wanted,
        )

    @classmethod
    # type: ignore[override]
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "LangBridgeProcessor":
        """Load the processor of a checkpoint. Raises `LangBridgeError` where a tokenizer is missing."""
        path = str(pretrained_model_name_or_path)
        if not Path(path).is_dir() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
            raise LangBridgeError(f"processor: there is no folder at {path!r}")
        try:
            return super().from_pretrained(path, **kwargs)
        except LangBridgeError:
            raise
        except (OSError, ValueError, TypeError) as error:
            raise LangBridgeError(
                f"processor: {path!r} lacks a tokenizer or processor_config.json (a bridge's folder has the "
                f"language model's tokenizer at its root and the "
                f"encoder's in encoder_tokenizer/): {error}"
            ) from error

    @property
    def model_input_names(self) -> list[str]:
        return ["encoder_input_ids", "encoder_attention_mask", "input_ids", "attention_mask"]

    def format(self, prompt: str) -> str:
        """The prompt in the template. Braces in the prompt are only braces."""
        before, after = self.template.split(_FIELD)
        return before + prompt + after

    def __call__(  # type: ignore[override]
        self,
        texts: str | Sequence[str],
        targets: str | Sequence[str] | None = None,
        lm_prefix: str | Sequence[str] | None = None,
        max_encoder_length: int | None = None,
        max_length: int | None = None,
        truncation: bool | str = False,
        padding_side: str | None = None,
        apply_template: bool = True,
        add_eos: bool = True,
        return_tensors: str | None = "pt",
        source_language: str | Sequence[str | None] | None = None,
    ) -> BatchFeature:
        """Prompts, and in training their targets, as one batch.

        texts: prompts, without the template. targets: what the language model is to write. lm_prefix: text it
            is to see as its own tokens before it writes; one for all rows, or one a row.
        max_encoder_length, max_length: limits in tokens of the encoder's input and of the language model's
            whole sequence, soft prompts included. The encoder's own limit holds always.
        truncation: False makes a too long row an error; `encoder` cuts prompts, `target` cuts targets, True
            cuts both. Cuts are warned of, with the rows.
        padding_side: of `input_ids`; by default left, or right with targets. The encoder's input is padded on
            the right.
        apply_template: False for texts that are not prompts (unlabelled text). add_eos: False for targets
            that do not end where they stop.
        source_language: the prompts' language (`sw`, `swh_Latn`), one for all rows or one a row, for encoders that
            mark it (NLLB, M2M-100, mBART); others take no notice. None leaves the tokenizer's own mark, English.

        Returns encoder_input_ids and encoder_attention_mask (batch, src), input_ids and attention_mask
        (batch, seq), and with targets labels (batch, seq): the target's tokens and EOS, -100 elsewhere. With
        `return_tensors=None` the same as lists. Raises `LangBridgeError`.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise LangBridgeError("texts: got an empty list, expected at least one prompt")
        if truncation not in _TRUNCATIONS:
            raise LangBridgeError(f"truncation: got {truncation!r}, expected one of {_TRUNCATIONS}")
        if padding_side not in (None, "left", "right"):
            raise LangBridgeError(f"padding_side: got {padding_side!r}, expected 'left', 'right' or None")
        prefixes = _one_a_row(lm_prefix, len(texts), "lm_prefix", broadcast=True)
        wanted = _one_a_row(targets, len(texts), "targets")
        whole = apply_template and self.template_in == "encoder"
        sources = self._encode_sources(
            [self.format(text) if whole else text for text in texts], max_encoder_length, truncation
        )
        languages = _one_a_row(source_language, len(texts), "source_language", broadcast=True)
        sources = mark_languages(self.encoder_tokenizer, sources, languages)
        before, after = self.template.split(_FIELD) if apply_template and self.template_in == "lm" else ("", "")
        before_ids = self._language_model_ids([before], "template")[0]
        prefix_ids = self._language_model_ids([after + (prefix or "") for prefix in prefixes], "lm_prefix")
        target_ids = self._language_model_ids([target or "" for target in wanted], "targets")

        bos = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        eos = [self._eos_id()] if targets is not None and add_eos else []
        rows, labels, cut = [], [], []
        for i, source in enumerate(sources):
            soft = [self.soft_prompt_token_id] * (soft_length(self.connector, len(source), self.num_latents) + 1)
            head = [*bos, *before_ids, *soft, *prefix_ids[i]]
            tail = [*target_ids[i], *eos]
            excess = 0 if max_length is None else len(head) + len(tail) - max_length
            if excess > 0:
                kept = len(target_ids[i]) - excess
                if truncation not in (True, "target") or targets is None or kept < 0:
                    raise LangBridgeError(
                        f"texts, row {i}: the sequence has {len(head) + len(tail)} tokens ({len(soft)} of "
                        f"them for soft prompts), the limit max_length is "
                        f"{max_length}; raise the limit, shorten the text, or ask for truncation ('encoder' "
                        f"cuts prompts, 'target' targets, True both)"
                    )
                tail = [*target_ids[i][:kept], *eos]
                cut.append(i)
            rows.append(head + tail)
            labels.append([IGNORE] * len(head) + tail)
        if cut:
            warnings.warn(f"targets of rows {cut} were cut to fit max_length={max_length}", stacklevel=2)

        side = padding_side or ("left" if targets is None else "right")
        batch = {
            "encoder_input_ids": _pad(sources, self.encoder_tokenizer.pad_token_id or 0, "right"),
            "encoder_attention_mask": _pad([[1] * len(row) for row in sources], 0, "right"),
            "input_ids": _pad(rows, self._pad_id(), side),
            "attention_mask": _pad([[1] * len(row) for row in rows], 0, side),
        }
        if targets is not None:
            batch["labels"] = _pad(labels, IGNORE, side)
        return BatchFeature(batch, tensor_type=return_tensors)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = True, **kwargs: Any) -> list[str]:
        """The language model's text in generated sequences; placeholders and ignored labels are left out."""
        return [self.decode(sequence, skip_special_tokens=skip_special_tokens, **kwargs) for sequence in sequences]

    def decode(self, sequence: Any, skip_special_tokens: bool = True, **kwargs: Any) -> str:
        """The same for one sequence."""
        ids = sequence.tolist() if isinstance(sequence, torch.Tensor) else list(sequence)
        kept = [i for i in ids if i >= 0 and i != self.soft_prompt_token_id]
        return self.tokenizer.decode(kept, skip_special_tokens=skip_special_tokens, **kwargs)

    def _encode_sources(self, texts: list[str], limit: int | None, truncation: bool | str) -> list[list[int]]:
        """The encoder's ids of each row, special tokens included, unpadded."""
        rows = self.encoder_tokenizer(texts, verbose=False)["input_ids"]
        hard = self.encoder_length_limit
        limit = min(x for x in (limit, hard) if x is not None) if (limit, hard) != (None, None) else None
        long = [] if limit is None else [i for i, row in enumerate(rows) if len(row) > limit]
        if not long:
            return rows
        if truncation not in (True, "encoder"):
            reason = f"the encoder has positions for {hard}" if limit == hard else f"max_encoder_length is {limit}"
            raise LangBridgeError(
                f"texts, rows {long}: the longest has {max(len(rows[i]) for i in long)} encoder tokens, but "
                f"{reason}; shorten the text, raise the limit where "
                "it is yours, or cut with truncation='encoder'"
            )
        warnings.warn(f"prompts of rows {long} were cut to {limit} encoder tokens", stacklevel=3)
        # The tokenizer cuts, because it keeps its closing token.
        short = self.encoder_tokenizer([texts[i] for i in long], truncation=True, max_length=limit)["input_ids"]
        for i, row in zip(long, short, strict=True):
            rows[i] = row
        return rows

    def _language_model_ids(self, texts: list[str], where: str) -> list[list[int]]:
        rows = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for i, row in enumerate(rows):
            if self.soft_prompt_token_id in row:
                raise LangBridgeError(
                    f"{where}, row {i}: the text contains the token with id {self.soft_prompt_token_id} "
                    f"({self.tokenizer.convert_ids_to_tokens(self.soft_prompt_token_id)!r}), which marks "
                    f"soft prompts; remove it from the text, or build the bridge "
                    "with another soft_prompt_token_id"
                )
        return rows

    def _eos_id(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise LangBridgeError(
                "targets: the language model's tokenizer has no EOS token, so a target cannot end; set "
                "tokenizer.eos_token or add_eos=False"
            )
        return self.tokenizer.eos_token_id

    def _pad_id(self) -> int:
        """Any id will do under a mask of zero; the tokenizer's own is the least surprising."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else (self.tokenizer.eos_token_id or 0)


def load_tokenizer(source: Any, required: bool = True) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a base. Where there is none: `LangBridgeError`, or None if it is not required."""
    if not isinstance(source, str | Path):
        if required:
            raise LangBridgeError(
                f"tokenizer: got a {type(source).__name__}, expected the folder or hub id that has the "
                f"model's tokenizer"
            )
        return None
    if (
        not required
        and Path(source).is_dir()
        and not any(Path(source).glob("*token*"))
        and not any(Path(source).glob("*.model"))
    ):
        return None
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except Exception as error:  # tokenizers raise whatever they like on a folder without files
        if not required:
            return None
        raise LangBridgeError(f"tokenizer: {str(source)!r} has none that can be loaded: {error}") from error


def whitespace_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Add to an encoder's tokenizer the whitespace that it would lose, and return the new ids. A second call
    adds nothing."""
    if any(mark >= len(tokenizer) for mark in marks_of(tokenizer).values()):
        return []  # M2M-100 has its languages' marks where new tokens would go
    lost = [
        space
        for space in WHITESPACE
        if space not in tokenizer.decode(tokenizer.encode(f"a{space}b", add_special_tokens=False))
    ]
    before = len(tokenizer)
    tokenizer.add_tokens([AddedToken(space, normalized=False) for space in lost])
    return list(range(before, len(tokenizer)))


def choose_placeholder(config: PreTrainedConfig | None, rows: int, tokenizer: PreTrainedTokenizerBase | None) -> int:
    """An id inside the language model's vocabulary that text will not contain, to mark the places of soft
    prompts.

    In this order: a row that no token uses; unk; a reserved token; a byte that UTF-8 never contains; the last
        id that does not begin, end or pad. It must be
    inside the vocabulary because repetition penalties and their kin index the logits with it.
    """
    sources = [source for source in (tokenizer, config) if source is not None]
    taken: set[int] = set()
    for source in sources:
        for value in (source.bos_token_id, source.eos_token_id, source.pad_token_id):
            taken.update(value if isinstance(value, list) else [value])
    last = next(i for i in range(rows - 1, -1, -1) if i not in taken)
    if tokenizer is None:
        return last
    if max(tokenizer.get_vocab().values()) < last:
        return last
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id not in taken and tokenizer.unk_token_id < rows:
        return tokenizer.unk_token_id
    reserved = [
        i for i, token in tokenizer.added_tokens_decoder.items() if token.special and i not in taken and i < rows
    ]
    if reserved:
        return max(reserved)
    vocabulary = tokenizer.get_vocab()
    for text in _IMPOSSIBLE:
        found = vocabulary.get(text)
        if (
            found is not None
            and found not in taken
            and found < rows
            and found not in tokenizer.encode(text, add_special_tokens=False)
        ):
            return found
    return last


def _one_a_row(
    values: str | Sequence[str | None] | None, rows: int, name: str, broadcast: bool = False
) -> list[str | None]:
    if values is None:
        return [None] * rows
    if isinstance(values, str):
        if not broadcast and rows != 1:
            raise LangBridgeError(f"{name}: got one text for {rows} prompts, expected one a prompt")
        return [values] * rows
    if len(values) != rows:
        raise LangBridgeError(f"{name}: got {len(values)} for {rows} prompts, expected one a prompt")
    return list(values)


def _pad(rows: list[list[int]], value: int, side: str) -> list[list[int]]:
    width = max(len(row) for row in rows)
    if side == "left":
        return [[value] * (width - len(row)) + row for row in rows]
    return [row + [value] * (width - len(row)) for row in rows]
