"""What the service counts and times, for Prometheus."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from resizable_search import __version__
from resizable_search.search.results import Answer

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets: a scan of sign bits takes half a millisecond, a hosted embedder seconds."""

STAGES = ("embed", "scan", "rerank")


class ServiceMetrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "rsearch_requests", "Requests by route and status.", ("route", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            "rsearch_request_seconds",
            "Seconds from a request to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.under_way = Gauge("rsearch_requests_under_way", "Requests without an answer.", registry=registry)
        self._queries = Counter("rsearch_queries", "Texts answered, by index.", ("index",), registry=registry)
        self._stage_seconds = Histogram(
            "rsearch_stage_seconds",
            "Seconds of a query: wait (for the scan before it), embed, scan, rerank; a batch shares a scan.",
            ("index", "stage"),
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_sizes = Histogram(
            "rsearch_scan_queries",
            "Queries answered by one scan.",
            ("index",),
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        build = Gauge("rsearch_build_info", "The running version.", ("version",), registry=registry)
        build.labels(__version__).set(1)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def scanned(self, index: str, waited: Sequence[float]) -> None:
        """Count a scan of several queries, and the seconds that each one waited for it."""
        self._batch_sizes.labels(index).observe(len(waited))
        wait = self._stage_seconds.labels(index, "wait")
        for seconds in waited:
            wait.observe(seconds)

    def answered(self, answers: Sequence[Answer]) -> None:
        """Count the answered queries of an index."""
        name = answers[0].index
        self._queries.labels(name).inc(len(answers))
        for stage in STAGES:
            histogram = self._stage_seconds.labels(name, stage)
            for answer in answers:
                histogram.observe(getattr(answer.timings_ms, stage) / 1e3)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
