"""How much a request may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """prompt_characters: of all of a request's texts. body_bytes: of its body. new_tokens: of an answer, and what it
    has where the request does not say. answers: of one request, prompts times `n`. seconds: until it is answered in
    full, the queue included. drain_seconds: for what is being answered when the server is told to end."""

    prompt_characters: int = 32_000
    body_bytes: int = 1_000_000
    new_tokens: int = 512
    answers: int = 16
    seconds: float = 300.0
    drain_seconds: float = 30.0

    def default_tokens(self, positions: int | None) -> int:
        """Of an answer of which nothing is said: where the model has little room, half of it is the prompt's."""
        return self.new_tokens if positions is None else max(1, min(self.new_tokens, positions // 2))
