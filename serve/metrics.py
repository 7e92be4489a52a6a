"""What Prometheus is told: numbers of requests, turns and tokens, and how long they took; never a word of what was said."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from serve.served import Served

disable_created_metrics()  # type: ignore[no-untyped-call]  # else each number comes with the time of its first count, twice as many series

FIRST_TOKEN = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
NEXT_TOKEN = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1)
"""Upper edges in seconds: llama.cpp on two cores is at about 0.01 for one stream, and at 0.05 for eight."""


class _Release(Collector):
    """Which release and engine answer, asked at each scrape, because another may be promoted at any time."""

    def __init__(self, served: "Served") -> None:
        self._served = served

    def collect(self) -> Iterator[Metric]:
        chat = self._served.current
        labels = {"release": chat.name, "engine": chat.engine.name}
        family = GaugeMetricFamily("thousand_release_info", "The current release and its engine.", labels=list(labels))
        family.add_metric(list(labels.values()), 1)
        yield family


class Meter:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, served: "Served") -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter("thousand_requests", "Answered HTTP requests.", ["route", "status"], registry=registry)
        self.errors = Counter("thousand_errors", "Errors told to clients.", ["code"], registry=registry)
        self.turns = Gauge(
            "thousand_turns",
            "Answers that wait for their first token, or are being written.",
            ["state"],
            registry=registry,
        )
        self.ended = Counter(
            "thousand_turns_ended",
            "Answers by how they ended: stop, length, cancelled (the client left), error.",
            ["via", "key", "outcome"],
            registry=registry,
        )
        self.tokens = Counter(
            "thousand_tokens",
            "Tokens of prompts, of those the ones found in the prefix cache (cached), and of answers (completion).",
            ["kind", "key"],
            registry=registry,
        )
        self.first_token = Histogram(
            "thousand_time_to_first_token_seconds",
            "From the request to the first text, the wait for a place included.",
            buckets=FIRST_TOKEN,
            registry=registry,
        )
        self.next_token = Histogram(
            "thousand_inter_token_seconds",
            "Between a piece of text and the next, for each of its tokens.",
            buckets=NEXT_TOKEN,
            registry=registry,
        )
        for state in ("waiting", "answering"):
            self.turns.labels(state)
        registry.register(_Release(served))
        ProcessCollector(registry=registry)

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)
