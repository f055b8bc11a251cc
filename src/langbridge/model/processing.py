"""The processor: text in, both models' inputs out.

The prompt template belongs here and is saved here: training, generation, evaluation and serving all lay out through
`LangBridgeProcessor`. What a template says is in `sequence.py`, how a row becomes tokens in `layout.py`; pads stand
outside a row, never in it. It works without the model; what it needs of it is in its own config.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils import to_py_obj

from langbridge.errors import LangBridgeError
from langbridge.files import named_as_on_the_hub
from langbridge.model.configuration import IGNORE, LangBridgeConfig
from langbridge.model.connectors.settings import ConnectorSettings
from langbridge.model.encoders import check_encoder, check_language_model, config_length_limit, load_config
from langbridge.model.intact import check_tokenizer
from langbridge.model.layout import Layout, Row, pad_rows
from langbridge.model.sequence import CHAT, FIELD, Part, Template, chats, template_of
from langbridge.model.sequence import conversation as conversation_parts
from langbridge.model.tokenizers import (
    bare_ids,
    choose_placeholder,
    has_digits_apart,
    load_tokenizer,
    set_digits_apart,
    whitespace_ids,
)


class CutWarning(UserWarning):
    """`kind` (prompts or targets) of the batch's `rows` were cut to a limit."""

    def __init__(self, kind: str, rows: list[int], limit: str) -> None:
        super().__init__(f"{kind} of rows {rows} were cut to {limit}")
        self.kind, self.rows, self.limit = kind, rows, limit


_TRUNCATIONS = (False, True, "encoder", "target")

_BATCHING = {
    "max_encoder_length", "max_length", "truncation", "padding", "padding_side", "return_tensors", "source_language",
}  # fmt: skip
"""How conversations become a batch; what else `apply_chat_template` is given, the template reads."""


class LangBridgeProcessor(ProcessorMixin):
    """Two tokenizers, one template, one layout.

    tokenizer: the language model's. encoder_tokenizer: the encoder's.
    template: text with `<soft>...</soft>` around what the encoder reads and `{prompt}` in it, also several times and
        also outside, where the language model reads it as its own tokens; `{shots}` is the place of worked examples. Or
        text with `{prompt}` in it once. Or `chat` for the chat template of the language model's tokenizer,
        or `chat: TURN` with what stands in it where the user speaks, as in `chat: <soft>{prompt}</soft>{prompt}`.
    template_in: of text without `<soft>`. `encoder` sends the whole templated prompt through the encoder (the paper's
        way); `lm` sends the prompt alone, and gives the text around it to the language model as its own tokens. Always
        `lm` with `chat`.
    system: with `chat`, the system message; None leaves it to the template, which may have one of its own.
    connector: as in `LangBridgeConfig`; decides how many placeholders a prompt gets. num_latents: the resampler's
        setting in processors that older versions saved.
    soft_prompt_token_id: the placeholder. new_token_ids: what the model must have rows for.
        encoder_length_limit: the encoder's hard limit in tokens.
    bare_token_ids: the encoder's tokens that stand for no character and get no soft prompt; empty where all get one.
    split_digits: whether the encoder's tokenizer gives every digit a token of its own.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encoder_tokenizer: PreTrainedTokenizerBase,
        template: str = FIELD,
        template_in: str = "encoder",
        system: str | None = None,
        connector: Any = "linear",
        num_latents: int | None = None,
        soft_prompt_token_id: int | None = None,
        encoder_length_limit: int | None = None,
        new_token_ids: list[int] | None = None,
        bare_token_ids: list[int] | None = None,
        split_digits: bool = False,
        **kwargs: Any,
    ):
        super().__init__(tokenizer, encoder_tokenizer, **kwargs)
        self.template, self.system = template, system
        self.template_in = "lm" if chats(template) else template_in
        self._laid_out: tuple[Any, Template] | None = None
        _ = self.layout  # refuses settings that cannot be
        self.connector = ConnectorSettings.read(connector, num_latents=num_latents)
        if soft_prompt_token_id is None:
            soft_prompt_token_id = choose_placeholder(None, len(tokenizer), tokenizer)
        self.soft_prompt_token_id = soft_prompt_token_id
        self.encoder_length_limit = encoder_length_limit
        self.new_token_ids = list(new_token_ids or [])
        self.bare_token_ids = list(bare_token_ids or [])
        self.split_digits = split_digits
        if split_digits:
            set_digits_apart(encoder_tokenizer)

    @classmethod
    def from_bases(
        cls,
        encoder: Any,
        language_model: Any,
        config: LangBridgeConfig | None = None,
        *,
        model: Any = None,
        template: str = FIELD,
        template_in: str = "encoder",
        system: str | None = None,
        connector: Any = "linear",
        drop_bare_tokens: bool = False,
        split_digits: bool = False,
    ) -> "LangBridgeProcessor":
        """The processor of a bridge between two bases (folders or hub ids).

        drop_bare_tokens: leave the encoder's tokens that stand for no character (`<s>`, a lone `▁`) without a soft
            prompt. split_digits: give the encoder digits one by one, where the language model's tokenizer has them so.
        Where there is a bridge already, its `config` (or the `model` itself) decides the layout.
        """
        if config is None and model is not None:
            config = model.config
        tokenizer, encoder_tokenizer = load_tokenizer(language_model), load_tokenizer(encoder)
        encoder_config: Any
        text_config: Any
        if config is None:
            encoder_config = load_config(encoder, "encoder")
            text_config = load_config(language_model, "language model")
            check_encoder(encoder_config, repr(str(encoder)))
            check_language_model(text_config, repr(str(language_model)))
            rows = text_config.get_text_config().vocab_size
            placeholder: int | None = choose_placeholder(text_config, rows, tokenizer)
            wanted = whitespace_ids(encoder_tokenizer)
            bare = bare_ids(encoder_tokenizer) if drop_bare_tokens else []
        else:
            encoder_config, text_config = config.encoder_config, config.text_config
            connector = config.connector
            placeholder, wanted = config.soft_prompt_token_id, list(config.new_token_ids or [])
            bare = list(config.bare_token_ids or [])
            added = whitespace_ids(encoder_tokenizer) if wanted else []
            if added != wanted:
                raise LangBridgeError(
                    f"encoder tokenizer: {str(encoder)!r} gives the whitespace tokens the ids {added}, but the bridge "
                    f"has embedding rows for {wanted}; use the tokenizer that the bridge was built with, or build "
                    "bridge and processor together with build_bridge"
                )
        assert tokenizer is not None, "required above"
        rows = text_config.get_text_config().vocab_size
        if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
            # A [PAD] that was added to the tokenizer and never to the model.
            tokenizer.pad_token = tokenizer.eos_token
        return cls(
            tokenizer,
            encoder_tokenizer,
            template=template,
            template_in=template_in,
            system=system,
            connector=connector,
            soft_prompt_token_id=placeholder,
            encoder_length_limit=config_length_limit(encoder_config),
            new_token_ids=wanted,
            bare_token_ids=bare,
            split_digits=split_digits and has_digits_apart(tokenizer),
        )

    @classmethod
    # type: ignore[override]
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "LangBridgeProcessor":
        """Load the processor of a checkpoint. Raises `LangBridgeError` where a tokenizer is missing."""
        path = str(pretrained_model_name_or_path)
        if not Path(path).is_dir() and not named_as_on_the_hub(path):
            raise LangBridgeError(f"processor: there is no folder at {path!r}")
        check_tokenizer(path)
        check_tokenizer(Path(path, "encoder_tokenizer"))
        try:
            return super().from_pretrained(path, **kwargs)
        except LangBridgeError:
            raise
        except (OSError, ValueError, TypeError) as error:
            raise LangBridgeError(
                f"processor: {path!r} lacks a tokenizer or processor_config.json (a bridge's folder has the language "
                f"model's tokenizer at its root and the encoder's in encoder_tokenizer/): {error}"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "connector": self.connector.to_dict()}

    @property
    def model_input_names(self) -> list[str]:
        return ["encoder_input_ids", "encoder_attention_mask", "input_ids", "attention_mask"]

    @property
    def layout(self) -> Template:
        """What stands around a prompt, and who reads it."""
        chat_template = str(self.tokenizer.chat_template)
        about = (self.template, self.template_in, self.system, chat_template, id(self.tokenizer))
        if self._laid_out is None or self._laid_out[0] != about:  # rendering a chat template takes a while
            self._laid_out = about, template_of(self.tokenizer, self.template, self.template_in, self.system)
        return self._laid_out[1]

    def format(self, prompt: str, shots: str = "") -> str:
        """The prompt in the template as one text, whichever model reads which part."""
        return self.layout.text(prompt, shots)

    @property
    def own_length(self) -> int:
        """Positions of the language model that a row takes for the begin token and the template's own text."""
        template = self.layout
        (row,) = self.tokens.rows([template.parts("")], whole=template.whole, cut=("encoder",), where="template")
        return row.own

    def longest_head(self, max_encoder_length: int) -> int | None:
        """The most positions of the language model that a row takes before its target; None where the language model
        reads the prompt itself, whose length has no bound."""
        if self.layout.reads_prompt:
            return None
        longest = self.tokens.longest_source(max_encoder_length)
        assert longest is not None, "a limit is given"
        return self.own_length + len(self.layout.sources("")) * self.tokens.most_positions(longest)

    @property
    def answer_end_id(self) -> int | None:
        """The id that ends an answer: the chat template's, or else the tokenizer's EOS."""
        return self.tokenizer.eos_token_id if self.layout.end is None else self.layout.end

    def __call__(  # type: ignore[override]
        self,
        texts: str | Sequence[str] | None = None,
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
        shots: str = "",
        own_prompts: Sequence[str] | None = None,
        text: str | Sequence[str] | None = None,
        padding: bool | str = True,
    ) -> BatchFeature:
        """Prompts, and in training their targets, as one batch.

        texts, or text: prompts, without the template. targets: what the language model is to write. lm_prefix: text it
            is to see as its own tokens before it writes; one for all rows, or one a row.
        max_encoder_length, max_length: limits in tokens of the encoder's input and of the language model's
            whole sequence, soft prompts included. The encoder's own limit holds always.
        truncation: False makes a too long row an error; `encoder` cuts prompts, `target` cuts targets, True
            cuts both; to `max_length` the targets, where there are any. Cuts are warned of, with the rows.
        padding_side: of `input_ids`; by default left, or right with targets. The encoder's input is padded on
            the right. padding: True or `longest`, since a batch's rows are always as long as its longest.
        apply_template: False for texts that are not prompts (unlabelled text). add_eos: False for targets
            that do not end where they stop.
        source_language: the prompts' language (`sw`, `swh_Latn`), one for all rows or one a row, for encoders that
            mark it (NLLB, M2M-100, mBART); others take no notice. None leaves the tokenizer's own mark, English.
        shots: text that the language model is to see as its own tokens before the soft prompts; with a chat template,
            where the user's words begin.
        own_prompts: what the language model reads as its own tokens in a prompt's place, one a row, where the template
            lets it read the prompt; None for the prompt itself.

        Returns encoder_input_ids and encoder_attention_mask (batch, src), input_ids and attention_mask
        (batch, seq), and with targets labels (batch, seq): the target's tokens and their end, -100 elsewhere. With
        `return_tensors=None` the same as lists. Raises `LangBridgeError`.
        """
        given = text if texts is None else texts
        if given is None or None not in (text, texts):
            raise LangBridgeError("texts: expected the prompts, once, as texts or as text, which is another name of it")
        texts = [given] if isinstance(given, str) else list(given)
        if not texts:
            raise LangBridgeError("texts: got an empty list, expected at least one prompt")
        prefixes = _one_a_row(lm_prefix, len(texts), "lm_prefix", broadcast=True)
        wanted = _one_a_row(targets, len(texts), "targets")
        own = _one_a_row(own_prompts, len(texts), "own_prompts")
        template = self.layout if apply_template else Template()
        return self._batch(
            [
                template.parts(text, shots, start or "", read)
                for text, start, read in zip(texts, prefixes, own, strict=True)
            ],
            whole=template.whole,
            targets=None if targets is None else [target or "" for target in wanted],
            end=self._end_id(template) if targets is not None and add_eos else None,
            languages=_one_a_row(source_language, len(texts), "source_language", broadcast=True),
            max_encoder_length=max_encoder_length,
            max_length=max_length,
            truncation=truncation,
            padding=padding,
            padding_side=padding_side,
            return_tensors=return_tensors,
        )

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]],
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """A conversation, or several, as text, or with `tokenize` and `return_dict` as the model's inputs.

        What the user says becomes soft prompts, a source a turn; system message and answers are the language model's
        own tokens. `encoder_input_ids` is (sources, src), the sources of the first row first.

        Limits, truncation, padding, `return_tensors` and `source_language` (one, of all that the user says) are as in
        `__call__`, here or in `processor_kwargs`. All else goes to the tokenizer's own `apply_chat_template`: `tools`,
        `chat_template`, `continue_final_message`, and what the template itself reads, such as `enable_thinking`.
        Raises `LangBridgeError`.
        """
        settings = {name: kwargs.pop(name) for name in _BATCHING & kwargs.keys()} | dict(processor_kwargs or {})
        if unknown := settings.keys() - _BATCHING:
            raise LangBridgeError(
                f"processor_kwargs: got {', '.join(sorted(unknown))}, expected some of {', '.join(sorted(_BATCHING))}"
            )
        if not chats(self.template):
            raise LangBridgeError(
                f"template: a conversation needs a bridge with `template: {CHAT}`; this one's is {self.template!r}"
            )
        if tokenize and not return_dict:
            raise LangBridgeError("return_dict: expected True with tokenize=True, because soft prompts are inputs, too")
        several = bool(conversation) and not isinstance(conversation[0], Mapping)
        conversations: Any = conversation if several else [conversation]
        parts = [
            conversation_parts(self.tokenizer, one, self.template, self.system, add_generation_prompt, kwargs)
            for one in conversations
        ]
        if not tokenize:
            texts = ["".join(part.text for part in row) for row in parts]
            return texts if several else texts[0]
        languages = [settings.pop("source_language", None)] * len(parts)
        return self._batch(parts, whole=True, languages=languages, where="messages", **settings)

    def _batch(
        self,
        parts: Sequence[Sequence[Part]],
        *,
        targets: Sequence[str] | None = None,
        max_encoder_length: int | None = None,
        max_length: int | None = None,
        truncation: bool | str = False,
        padding: bool | str = True,
        padding_side: str | None = None,
        return_tensors: str | None = "pt",
        **laying: Any,
    ) -> BatchFeature:
        """Rows of parts as the model's inputs."""
        if truncation not in _TRUNCATIONS:
            raise LangBridgeError(f"truncation: got {truncation!r}, expected one of {_TRUNCATIONS}")
        if padding not in (True, "longest"):
            raise LangBridgeError(f"padding: got {padding!r}, expected True or 'longest'")
        if padding_side not in (None, "left", "right"):
            raise LangBridgeError(f"padding_side: got {padding_side!r}, expected 'left', 'right' or None")
        rows = self.tokens.rows(
            parts,
            targets=targets,
            max_encoder_length=max_encoder_length,
            max_length=max_length,
            cut=("encoder", "target") if truncation is True else (truncation or "",),
            **laying,
        )
        longest = self.tokens.longest_source(max_encoder_length)
        prompts, to_fit = [number for number, row in enumerate(rows) if row.prompt_cut], f"fit max_length={max_length}"
        # What is cut to the encoder's limit is as long as that.
        to_limit = [number for number in prompts if any(len(one) == longest for one in rows[number].sources)]
        for kind, cut, limit in (
            ("prompts", to_limit, f"{longest} encoder tokens"),
            ("prompts", [number for number in prompts if number not in to_limit], to_fit),
            ("targets", [number for number, row in enumerate(rows) if row.target_cut], to_fit),
        ):
            if cut:
                warnings.warn(CutWarning(kind, cut, limit), stacklevel=3)
        side = padding_side or ("left" if targets is None else "right")
        batch = self._padded(rows, side)
        if targets is not None:
            batch["labels"] = pad_rows([row.labels for row in rows], IGNORE, side)
        return BatchFeature(batch, tensor_type=return_tensors)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = True, **kwargs: Any) -> list[str]:
        """The language model's text in generated sequences; placeholders and ignored labels are left out, and with the
        special tokens whatever ends an answer."""
        return [self.decode(sequence, skip_special_tokens=skip_special_tokens, **kwargs) for sequence in sequences]

    def decode(self, sequence: Any, skip_special_tokens: bool = True, **kwargs: Any) -> Any:
        """The same for one sequence, or, as transformers has it, for a batch of them."""
        ids = to_py_obj(sequence)
        if len(ids) and isinstance(ids[0], list | tuple):
            return self.batch_decode(ids, skip_special_tokens, **kwargs)
        # A template's end need not be among the tokens that the tokenizer calls special.
        ends = {self.soft_prompt_token_id, *([self.layout.end] if skip_special_tokens else [])}
        kept = [i for i in ids if i >= 0 and i not in ends]
        return self.tokenizer.decode(kept, skip_special_tokens=skip_special_tokens, **kwargs)

    @property
    def tokens(self) -> Layout:
        """What makes tokens of rows of parts."""
        return Layout(
            tokenizer=self.tokenizer,
            encoder_tokenizer=self.encoder_tokenizer,
            connector=self.connector,
            placeholder=self.soft_prompt_token_id,
            encoder_limit=self.encoder_length_limit,
            bare=frozenset(self.bare_token_ids),
        )

    @property
    def pad_ids(self) -> tuple[int, int]:
        """What fills up `input_ids`, and what fills up `encoder_input_ids`; any id will do under a mask of zero."""
        own = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(i for i in own if i is not None), self.encoder_tokenizer.pad_token_id or 0

    def _end_id(self, template: Template) -> int:
        end = self.tokenizer.eos_token_id if template.end is None else template.end
        if end is None:
            raise LangBridgeError(
                "targets: the language model's tokenizer has no EOS token, so a target cannot end; set "
                "tokenizer.eos_token or add_eos=False"
            )
        return end

    def _padded(self, rows: list[Row], side: str) -> dict[str, list[list[int]]]:
        sources = [source for row in rows for source in row.sources]
        pad, source_pad = self.pad_ids
        return {
            "encoder_input_ids": pad_rows(sources, source_pad, "right"),
            "encoder_attention_mask": pad_rows([[1] * len(source) for source in sources], 0, "right"),
            "input_ids": pad_rows([row.ids for row in rows], pad, side),
            "attention_mask": pad_rows([[1] * len(row.ids) for row in rows], 0, side),
        }


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
