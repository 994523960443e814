"""Every order of a few callers' steps, where each step is one request to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def orders(steps: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield each order of callers: the n-th takes ``steps[n]`` steps."""
    if not any(steps):
        yield ()
    for caller, left in enumerate(steps):
        if left:
            after = [*steps]
            after[caller] -= 1
            for rest in orders(after):
                yield (caller, *rest)
