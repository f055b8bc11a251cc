"""The embedding rows of white space that the encoder's tokenizer would lose."""

from typing import Any

from torch import nn

from langbridge.data.stream import RowStream
from langbridge.model import LangBridgeProcessor
from langbridge.train.parts.base import Part
from langbridge.train.rows import some_texts, text_of


class NewRowsPart(Part):
    """They learn at the connector's rate, and were always in its group."""

    name, group = "new rows", "connector"

    def parameters(self) -> list[nn.Parameter]:
        return [] if self.model.new_rows is None else [self.model.new_rows]


def reads_new_rows(processor: LangBridgeProcessor, examples: Any) -> bool:
    """Whether the prompts hold a token that was added to the encoder's tokenizer.

    Only then are the new rows worth training: it costs a backward pass through the frozen encoder. Of a stream the
    first 1,000 rows are asked.
    """
    added = processor.encoder_tokenizer.convert_ids_to_tokens(processor.new_token_ids)
    streamed = isinstance(examples, RowStream)
    texts = some_texts(examples, 1000, 0) if streamed else (text_of(example) for example in examples)
    return any(token in source for text in texts for source in processor.layout.sources(text) for token in added)
