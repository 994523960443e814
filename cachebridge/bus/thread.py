"""The threads of the bus, which run beside callers and on behalf of none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class BusThread(threading.Thread):
    """A daemon thread of the bus: the interpreter does not wait for it at exit."""

    def __init__(self, run: Callable[..., None], name: str, *args: object) -> None:
        super().__init__(target=run, args=args, name=name, daemon=True)


def is_bus_thread() -> bool:
    """Return whether the bus asks, and no caller: it may have been stopped already."""
    return isinstance(threading.current_thread(), BusThread)
