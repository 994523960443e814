"""How the groups of private servers are asked for their state, and waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from cachebridge.testing.servers import RedisServer

__all__ = ["ask", "client_of", "until"]

_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.03
T = TypeVar("T")


def client_of(server: RedisServer, timeout_s: float = 5.0) -> Redis:
    """Return a client that asks once: an error is an answer, too."""
    from redis import Redis  # noqa: PLC0415 slow to import
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    return Redis(
        host=server.host,
        port=server.port,
        protocol=2,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def ask(server: RedisServer, *command: object) -> Any:
    """Send one command on a connection of its own; raises what redis-py raises."""
    with client_of(server) as client:
        return client.execute_command(*command)


def until(condition: Callable[[], T | None], timeout_s: float = _TIMEOUT_S) -> T:
    """Return the first true answer; while servers refuse or are away, ask again.

    Raises TimeoutError.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        problem: Exception | None = None
        try:
            answer = condition()
        except Exception as exc:  # noqa: BLE001 raised below, if it lasts
            answer, problem = None, exc
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"not within {timeout_s:.0f} s: {problem or condition}"
            ) from problem
        time.sleep(_POLL_S)
