"""What a request may cost the server, and how one that would cost more is refused."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on what is accepted. Together they bound the memory: see docs/serving.md.

    Raises ValueError for one that is not above 0.
    """

    bytes: int = 16 * 2**20
    """Of a request's body."""
    pixels: int = 40_000_000
    """Of an image, by its header; a batch of several has no more in all."""
    batch: int = 8
    """Images that go through the net together, at most."""
    queue: int = 32
    """Images that wait, at most."""
    connections: int = 64
    """Open at the same time."""
    send_seconds: float = 20
    """For a client to send a request: its head, and as long again its body."""
    answer_seconds: float = 60
    """From the last byte of a request to its answer."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float('inf'):
                raise ValueError(f'the limit of {field.name.replace("_", " ")} is {value}; expected a number above 0')

    @property
    def bytes_in_all(self) -> int:
        """Of all bodies that are being received or wait."""
        return 16 * self.bytes


class Refusal(Exception):
    """A request that is not answered with detections: an HTTP status, and words for the one who sent it."""

    def __init__(self, status: int, words: str, headers: dict[str, str] | None = None):
        super().__init__(words)
        self.status = status
        self.words = words
        self.headers = headers or {}


def busy(words: str) -> Refusal:
    """503: there is more to do than is accepted; to be tried again in a second."""
    return Refusal(503, words, {'Retry-After': '1'})


FAILED = "the server failed at this image; its operator finds why in the server's log"
"""The words of 500: what went wrong inside is no client's business."""
