"""Loads many keys in one batch: each under its own lease, all by one function.

Every key has a ``get_or_load`` of its own, so all rules of one load hold.  Its loader
stops the coroutine, and all that have stopped are answered by one call.  Keys are asked
for in one order everywhere: callers whose batches overlap never wait in a circle.
"""

from __future__ import annotations

from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any

from cachebridge.waiting.io import OwnFunction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping


class _Stop:
    """What a loader awaits until the batch has its value."""

    def __await__(self) -> Generator[_Stop, Any, Any]:
        return (yield self)


async def _stop() -> Any:
    return await _Stop()


def batch_loader(in_background: Callable[[], Any]) -> OwnFunction:
    """Return the loader for a key of ``load_together``.

    ``in_background`` loads the key alone, to refresh it later.
    """
    return OwnFunction(_stop, in_background=in_background)


class _Part:
    """The coroutine of one key, which goes on from stop to stop."""

    def __init__(self, steps: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = steps
        self.is_over = False
        self.result: Any = None
        self.error: Exception | None = None

    async def go_on(self, answer: Any = None, error: Exception | None = None) -> None:
        """Go on to the next stop, or to the end, with the loader's outcome."""
        try:
            await self._step(answer, error)
        except Exception as exc:  # noqa: BLE001 raised when all parts are over
            self.is_over, self.error = True, exc

    @coroutine
    def _step(self, answer: Any, error: Exception | None) -> Generator[Any, Any, None]:
        step = partial(self._coroutine.send, answer)
        if error is not None:
            step = partial(self._coroutine.throw, error)
        while True:
            try:
                awaited = step()
            except StopIteration as done:
                self.is_over, self.result = True, done.value
                return
            if type(awaited) is _Stop:
                return
            try:
                step = partial(self._coroutine.send, (yield awaited))
            except BaseException as exc:  # noqa: BLE001 for the coroutine to handle
                step = partial(self._coroutine.throw, exc)

    def close(self) -> None:
        """Break it off, as a cancellation does: its lease is given back."""
        self._coroutine.close()


async def load_together(
    starts: Mapping[str, Callable[[], Coroutine[Any, Any, Any]]],
    load: Callable[[list[str]], Awaitable[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return what each coroutine returns, by key; ``load`` answers all that stop.

    It gets the keys whose loaders have to run, and is called at most once.  If it
    raises, each coroutine gets the exception.  Raises the first one that comes out of a
    coroutine, after all have ended.
    """
    parts: dict[str, _Part] = {}
    try:
        for key, start in starts.items():
            parts[key] = _Part(start())
            await parts[key].go_on()
        # The last one first: what each has entered is left in the opposite order.
        stopped = [key for key in reversed(parts) if not parts[key].is_over]
        answers: Mapping[str, Any] = {}
        error: Exception | None = None
        if stopped:
            try:
                answers = await load(stopped[::-1])
            except Exception as exc:  # noqa: BLE001 it goes to every coroutine
                error = exc
        for key in stopped:
            while not parts[key].is_over:
                await parts[key].go_on(answers.get(key), error)
    finally:
        for part in reversed(parts.values()):
            part.close()
    for part in parts.values():
        if part.error is not None:
            raise part.error
    return {key: part.result for key, part in parts.items()}
