"""Answers in the form of OpenAI's objects."""

from langbridge.serve.engine import Answer
from langbridge.serve.http.replies import Reply
from langbridge.serve.live import Token


def test_of_tokens_that_read_alike_the_likeliest_is_told() -> None:
    half = "\N{REPLACEMENT CHARACTER}"
    reply = Reply("bridge", 1, 1, True)
    reply.keep(0, [Token(half, -0.5, [(half, -0.5), ("a", -2.0), (half, -3.0)])])
    (choice,) = reply.whole([Answer("é", 1, "stop", 3)])["choices"]
    assert choice["logprobs"]["top_logprobs"] == [{half: -0.5, "a": -2.0}]
