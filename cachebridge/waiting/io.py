"""How a caller waits: a thread blocks, a task suspends.

``IO`` has one implementation for each.  What waits is written once, as coroutines over
an ``IO``; ``waiting.run`` carries those of a thread to their end.  The network is not
here: ``l2.connections`` has links for threads and for tasks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cachebridge.waiting.run import Call, Carried
from cachebridge.waiting.signals import is_on_loop
from cachebridge.waiting.together import run_together

if TYPE_CHECKING:
    from cachebridge.waiting.signals import Signal, Slots

T = TypeVar("T")


class IO(Protocol):
    """How one kind of caller waits.  Stateless and thread safe."""

    async def wait(self, signal: Signal, timeout_s: float | None = None) -> bool:
        """Wait for the signal; return whether it was set in time (seconds)."""

    async def acquire(
        self, slots: Slots, ticket: object, timeout_s: float | None = None
    ) -> bool:
        """Take a slot; return whether there was one in time (seconds)."""

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call the application's function; await its result where tasks do."""

    async def together(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Carry all to their ends at once; return their results, in order.

        If some raise, the first error comes out when all have ended.
        """

    def may_wait(self) -> bool:
        """Return whether waiting for another caller is safe here."""

    async def retry_blocking(
        self, function: Callable[[], Any], error: Exception
    ) -> Any:
        """Call the function in a thread if ``error`` says that it must not block here.

        Else raise the error.  ``blocking_refused_by`` tells which errors say so.
        """

    def raised(self, error: BaseException) -> BaseException:
        """Return the exception to raise in a coroutine so that ``error`` comes out."""


class ThreadIO:
    """See ``IO``: blocks, so that the coroutine never suspends."""

    async def wait(self, signal: Signal, timeout_s: float | None = None) -> bool:
        """Block this thread until the signal is set."""
        return signal.wait(timeout_s)

    async def acquire(
        self, slots: Slots, ticket: object, timeout_s: float | None = None
    ) -> bool:
        """Block this thread until there is a slot."""
        return slots.acquire(ticket, timeout_s)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Have the driver call it, with no frame of this coroutine on the stack."""
        made = Call(function)
        await made
        error, made.error = made.error, None
        if error is None:
            return made.result
        try:
            raise self.raised(error)
        finally:
            del error  # it refers to this frame

    async def together(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Send all first requests before the first reply is read."""
        return [await calls[0]] if len(calls) == 1 else run_together(calls)

    def may_wait(self) -> bool:
        """Return False in a thread that runs an event loop, whose tasks it blocks."""
        return not is_on_loop()

    async def retry_blocking(
        self,
        function: Callable[[], Any],  # noqa: ARG002 the other kind calls it
        error: Exception,
    ) -> Any:
        """Raise the error: a thread may block."""
        raise self.raised(error)

    def raised(self, error: BaseException) -> BaseException:
        """Return the error, in ``Carried`` if it is a StopIteration."""
        return Carried(error) if isinstance(error, StopIteration) else error


class TaskIO:
    """See ``IO``: suspends; for tasks of any asyncio event loop."""

    async def wait(self, signal: Signal, timeout_s: float | None = None) -> bool:
        """Suspend this task until the signal is set."""
        return await signal.wait_async(timeout_s)

    async def acquire(
        self, slots: Slots, ticket: object, timeout_s: float | None = None
    ) -> bool:
        """Suspend this task until there is a slot."""
        return await slots.acquire_async(ticket, timeout_s)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call it here; what it returns is awaited if it is awaitable."""
        result = function()
        return await result if isawaitable(result) else result

    async def together(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run each in a task of its own."""
        if len(calls) == 1:
            return [await calls[0]]
        from asyncio import gather  # noqa: PLC0415 a loop runs, so it is imported

        ended = await gather(*calls, return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each
        return ended  # type: ignore[return-value] # none of them is an error

    def may_wait(self) -> bool:
        """Return True: waiting suspends this task alone."""
        return True

    async def retry_blocking(
        self, function: Callable[[], Any], error: Exception
    ) -> Any:
        """Suspend this task while a thread calls the function."""
        for kind, call_in_thread in _refusals.items():
            if isinstance(error, kind):
                return await call_in_thread(function)
        raise error

    def raised(self, error: BaseException) -> BaseException:
        """Return the error; Python makes a RuntimeError of a StopIteration."""
        return error


InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls a function in a thread, where it may block."""

_refusals: dict[type[Exception], InThread] = {}


def blocking_refused_by(error: type[Exception], call_in_thread: InThread) -> None:
    """Say with which error a framework refuses what blocks in a task.

    A value that raises it while it is encoded is encoded by ``call_in_thread``.
    """
    _refusals[error] = call_in_thread


THREADS: Final[IO] = ThreadIO()
TASKS: Final[IO] = TaskIO()


class OwnFunction:
    """A function of ours whose coroutine waits as its caller does.

    It stands where an application's function may stand.
    """

    __slots__ = ("_start", "in_background")

    def __init__(
        self,
        start: Callable[..., Awaitable[Any]],
        *,
        in_background: Callable[[], Any] | None = None,
    ) -> None:
        self._start = start
        self.in_background = in_background
        """The application's function that does the same where this caller is not."""

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Return the coroutine."""
        return self._start(*args, **kwargs)


def mark_coroutine_function(function: Any) -> None:
    """Let ``iscoroutinefunction`` of asyncio say True of an object that is called."""
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:
        import asyncio  # noqa: PLC0415 only for coroutine functions

        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined] # noqa: SLF001 no other way


async def call(io: IO, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Any:
    """Call the application's function; await its result where ``io`` does.

    In a thread a StopIteration of the function comes out of ``run`` unchanged.
    """
    if isinstance(function, OwnFunction):
        return await function(*args, **kw)
    return await io.call(partial(function, *args, **kw) if args or kw else function)
