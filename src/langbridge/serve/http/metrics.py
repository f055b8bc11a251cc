"""What a server counts of its work, for Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from langbridge.serve.engine import Answer
from langbridge.serve.live import LiveEngine

_FIRST = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_WHOLE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Of one server, in a registry of its own."""

    def __init__(self, models: Mapping[str, LiveEngine]):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "langbridge_requests",
            "Requests by path and status; 499: the client went before its answer was whole.",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "langbridge_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=_WHOLE,
            registry=self.registry,
        )
        self.first = Histogram(
            "langbridge_first_token_seconds",
            "From a request to the first text of its answer, the queue included.",
            ["model"],
            buckets=_FIRST,
            registry=self.registry,
        )
        self._tokens = Counter(
            "langbridge_tokens",
            "Tokens of whole answers: read by the encoder, read by the language model besides, and written.",
            ["model", "kind"],
            registry=self.registry,
        )
        for name, text in (
            ("waiting", "Requests that are not yet written."),
            ("running", "Requests that are being written."),
            ("slots", "Requests that can be written at once."),
        ):
            gauge = Gauge(f"langbridge_{name}", text, ["model"], registry=self.registry)
            for model, engine in models.items():
                gauge.labels(model).set_function(_load(engine, name))

    def answered(self, model: str, answer: Answer) -> None:
        self._tokens.labels(model, "encoder").inc(answer.encoder_tokens)
        self._tokens.labels(model, "prompt").inc(answer.prompt_tokens - answer.encoder_tokens)
        self._tokens.labels(model, "written").inc(answer.tokens)

    @property
    def response(self) -> Response:
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _load(engine: LiveEngine, name: str) -> Callable[[], float]:
    return lambda: float(getattr(engine.load, name))
