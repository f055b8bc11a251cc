"""What a bridge has read of its sources, on the way to the language model."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from langbridge.model.sequence import sources_of_rows


class Memory(NamedTuple):
    """What a connector makes of the encoder's states: one entry a source, or once `by_row`, one a row.

    soft_prompts: what fills the placeholders, the end vector last. mask: the real ones.
    keys_values: what `Connector.inject` brings into the language model's layers, of any width.
        keys_values_mask: its real positions. Connectors that only make soft prompts leave them out.
    """

    soft_prompts: Float[Tensor, "sources soft d_lm"]
    mask: Int[Tensor, "sources soft"]
    keys_values: Float[Tensor, "sources memory d_memory"] | None = None
    keys_values_mask: Int[Tensor, "sources memory"] | None = None

    def laid_into(
        self, embeds: Float[Tensor, "batch seq d_lm"], places: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq d_lm"]:
        """Embedded sequences with the real soft prompts in their places, in order, in the embeddings' precision. Raises
        `LangBridgeError` where a row has more or fewer places than soft prompts."""
        soft, mask = self.soft_prompts.to(embeds), self.mask.to(embeds.device)
        sources_of_rows(places.sum(1).tolist(), mask.sum(1).tolist())
        return embeds.masked_scatter(places.unsqueeze(-1), soft[mask.bool()])

    def by_row(self, places: Bool[Tensor, "batch seq"]) -> "Memory":
        """The sources of each row end to end: a row has as many as fill its placeholders."""
        counts = sources_of_rows(places.sum(1).tolist(), self.mask.sum(1).tolist())
        if counts == [1] * len(self.soft_prompts):
            return self
        soft_prompts, mask = _joined(self.soft_prompts, self.mask, counts)
        if self.keys_values is None or self.keys_values_mask is None:
            return Memory(soft_prompts, mask)
        return Memory(soft_prompts, mask, *_joined(self.keys_values, self.keys_values_mask, counts))

    def repeated(self, times: int) -> "Memory":
        """Every row `times` times in a row, as beams and several samples need it."""
        return Memory(*(None if part is None else part.repeat_interleave(times, dim=0) for part in self))

    def of_places(self, places: Bool[Tensor, "batch seq"], first: int, last: int) -> "Memory":
        """With those soft prompts alone marked real whose placeholders stand at positions `first` to `last`."""
        number = self.mask.cumsum(1)
        before, until = (places[:, :end].sum(1, keepdim=True).to(number.device) for end in (first, last))
        return self._replace(mask=self.mask * ((number > before) & (number <= until)))


def _joined(values: Tensor, mask: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
    rows = zip(values.split(counts), mask.bool().split(counts), strict=True)
    joined = [some[real] for some, real in rows]
    masks = [mask.new_ones(len(row)) for row in joined]
    return nn.utils.rnn.pad_sequence(joined, batch_first=True), nn.utils.rnn.pad_sequence(masks, batch_first=True)
