"""Caches as several processes have them, in one."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from cachebridge import Cache
from cachebridge.engine import registry
from cachebridge.engine.messages.listening import READS_BEFORE_LISTENING
from cachebridge_pytest.clock import ENGINE
from cachebridge_pytest.isolation import new_location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def fleets() -> Iterator[Callable[..., list[Cache]]]:
    """Return ``make(n, **options)``; all caches it made are closed at the end."""
    with ExitStack() as opened:

        def make(n: int = 2, **options: Any) -> list[Cache]:
            """Make n caches with one store; options as of ``Cache``.

            Raises ValueError for less than one.
            """
            if n < 1:
                raise ValueError(f"a fleet has one cache or more, not {n!r}")
            caches: list[Cache] = []
            server = None
            for _ in range(n):
                shared: dict[str, Any] = {"memory_server": server}
                engine = partial(getattr(registry, ENGINE), **shared)
                with patch.object(registry, ENGINE, engine):
                    cache = Cache(new_location(), **options)
                caches.append(opened.enter_context(cache))
                for _ in range(READS_BEFORE_LISTENING):  # so that L1 is at work
                    cache.get("begin to listen")
                server = _engine_of(cache).memory_server
            return caches

        yield make


def _engine_of(cache: Cache) -> Any:
    return cache._binding.engine  # noqa: SLF001 of this project
