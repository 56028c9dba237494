"""What a server counts, for Prometheus: numbers only, never who asked or what."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Meters:
    """The counters of one server; ``page`` is what ``/metrics`` shows."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "pride_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "pride_request_seconds",
            "From a request to the end of its reply.",
            ["route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.first = Histogram(
            "pride_first_token_seconds", "From a request to its first words.", registry=registry, buckets=_SECONDS
        )
        self.tokens = Counter("pride_tokens", "Tokens read and written.", ["kind"], registry=registry)
        self.batch = Histogram(
            "pride_batch_size", "Requests answered side by side.", registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.queue = Gauge("pride_queue", "Requests that wait for the student.", registry=registry)
        self.at_once = Gauge("pride_in_flight", "Requests that are being served.", registry=registry)
        self.uploads = Counter(
            "pride_uploads", "Clips and sounds by what came of them.", ["outcome"], registry=registry
        )
        self.restarts = Gauge(
            "pride_decoder_restarts", "Decoding processes that died or were stopped.", registry=registry
        )
        self.referrals = Counter("pride_referrals", "Requests answered with a referral.", registry=registry)

    def page(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
