"""Several calls at once from one thread: every request goes out before a reply is read.

A coroutine that is carried to its end here stops once, where its first request has been
sent; when all have stopped or ended, they go on one after the other.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachebridge.waiting.run import REFUSED, Call, Carried

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Sequence

T = TypeVar("T")


class _Sent:
    """What an exchange awaits between its request and its reply."""

    def __await__(self) -> Generator[_Sent, None, None]:
        yield self


SENT: Final = _Sent()


_stopping: set[int] = set()
"""The threads whose exchanges have to await ``SENT``.

By their numbers: gevent, which may patch ``threading`` after this import, gives each
greenlet one of its own, and leaves an existing ``threading.local`` to the thread.
"""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stopping.clear)


def stops_when_sent() -> bool:
    """Return whether an exchange of this thread has to await ``SENT``."""
    return bool(_stopping) and threading.get_ident() in _stopping


def _send(coroutine: Coroutine[Any, Any, Any], me: int, *, stops: bool) -> Any:
    if stops:
        _stopping.add(me)
    try:
        return coroutine.send(None)
    finally:
        _stopping.discard(me)


def _go_on(coroutine: Coroutine[Any, Any, Any], *, stops: bool) -> bool:
    """Run to the place where the request has been sent; raises at the end."""
    me = threading.get_ident()
    try:
        awaited = _send(coroutine, me, stops=stops)
        while type(awaited) is Call:
            awaited.make()  # the application's function may call a cache
            awaited = _send(coroutine, me, stops=stops)
    finally:
        _stopping.discard(me)
    if awaited is not SENT:
        raise RuntimeError(REFUSED)
    return True


def run_together(coroutines: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all in this thread and return what they return, in order.

    If some raise, the first error comes out when all have ended.  Thread safe.
    """
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}
    left = dict(enumerate(coroutines))
    try:
        for stops in (True, False):
            for at, coroutine in list(left.items()):
                try:
                    _go_on(coroutine, stops=stops)
                except StopIteration as done:
                    results[at] = done.value
                except Carried as carried:
                    errors[at] = carried  # for the coroutine that asks
                except Exception as exc:  # noqa: BLE001 raised when all have ended
                    errors[at] = exc
                else:
                    continue
                del left[at]
    finally:
        for coroutine in left.values():  # an interrupt has struck
            coroutine.close()
    if errors:
        raise errors[min(errors)]
    return [results[at] for at in range(len(coroutines))]
