"""What the server counts, as Prometheus reads it. Each server has a registry of its own."""

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_IMAGES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            own.register(collector)
        self.answers = Counter('detector_answers', 'Answers to /detect, by HTTP status', ['status'], registry=own)
        self.answer_seconds = Histogram(
            'detector_answer_seconds', 'From the head of a request to its detections', buckets=_SECONDS, registry=own
        )
        self.waited_seconds = Histogram(
            'detector_waited_seconds', 'Of it, in the queue', buckets=_SECONDS, registry=own
        )
        self.batch_images = Histogram(
            'detector_batch_images', 'Images that went through the net together', buckets=_IMAGES, registry=own
        )
        self.batch_seconds = Histogram(
            'detector_batch_seconds', 'Detecting in such a batch, decoding included', buckets=_SECONDS, registry=own
        )
        self.objects = Counter('detector_objects', 'Objects in the answers, by class', ['name'], registry=own)
        self.queue = Gauge('detector_queue_images', 'Images that wait now', registry=own)
        self.connections = Gauge('detector_connections', 'Connections that are open now', registry=own)
        self.cut = Counter(
            'detector_connections_cut', 'Connections ended by the server, by reason', ['reason'], registry=own
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)
