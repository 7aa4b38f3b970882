"""Ways to the same result: which there are, and one of them taken by force, for tests and self-checks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Routes:
    """The names of the ways that a kernel has on this processor. Not for several threads at once.

    forced: the one that is to serve wherever it can, or None: the kernel's own rule decides.
    """

    def __init__(self, *names: str):
        self.names = names
        self.forced: str | None = None

    def forced_away_from(self, name: str) -> bool:
        """Whether another way is to serve than this one."""
        return self.forced is not None and self.forced != name

    @contextlib.contextmanager
    def force(self, name: str) -> Iterator[None]:
        """Within the `with`, this way serves wherever it can. Raises ValueError where there is none of this name."""
        if name not in self.names:
            raise ValueError(f'{name!r} is none of the ways that there are here: {", ".join(self.names)}')
        before, self.forced = self.forced, name
        try:
            yield
        finally:
            self.forced = before
