"""Carries a coroutine to its end in a thread, where nothing it awaits may suspend.

Everything below the adapters that waits is a coroutine, written once.  In a thread each
wait blocks inside the coroutine.  Only one thing does a coroutine leave to its driver:
the call of an application's function, such as a loader, as a ``Call``.  While that
runs, the coroutine's frames are off the stack, so that loads can be nested deeply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")
REFUSED = "a thread's call must not suspend: what it awaits was made for tasks"


class Carried(Exception):  # noqa: N818 it carries an error, it is none itself
    """Carries a StopIteration out of a coroutine, which cannot raise one."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Call:
    """A call that a coroutine leaves to its driver: await it, then read the answer."""

    __slots__ = ("error", "function", "result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None

    def __await__(self) -> Generator[Call, None, None]:
        yield self

    def make(self) -> None:
        """Call the function, for the coroutine that waits."""
        try:
            self.result = self.function()
        except BaseException as exc:  # noqa: BLE001 the coroutine raises it
            self.fail(exc)

    def fail(self, error: BaseException) -> None:
        """Note what the function has raised, without the frame that has called it."""
        called = error.__traceback__
        self.error = error.with_traceback(called and called.tb_next)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine in this thread and return what it returns.

    Raises what the coroutine raises, and RuntimeError if it suspends: then it was made
    for tasks.  Thread safe; may be called from inside another coroutine.
    """
    try:
        call = coroutine.send(None)
        while type(call) is Call:
            call.make()
            call = coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration is not generic
    except Carried as carried:
        error = carried.error
    except BaseException:  # what has struck here: nothing stays suspended
        coroutine.close()
        raise
    else:
        error = RuntimeError(REFUSED)
    coroutine.close()
    raise error


class Steps(Generic[T]):
    """Runs a coroutine as ``run`` does, but its owner's frame makes the calls.

    So a load takes one frame of the stack while its loader runs::

        with Steps(coroutine) as steps:
            while steps.go_on():
                steps.answer = steps.function()
        return steps.result

    The ``with`` block gives the coroutine what the function raises.
    """

    __slots__ = ("_call", "_coroutine", "answer", "function", "result")
    result: T
    """What the coroutine has returned, after the ``with`` block."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._call: Call | None = None
        self.function: Callable[[], Any]
        self.answer: Any = None

    def __enter__(self) -> Self:
        return self

    def go_on(self) -> bool:
        """Run to the next call, and return True; False at the end."""
        if self._call is not None:
            self._call.result, self.answer = self.answer, None
        try:
            call = self._coroutine.send(None)
        except StopIteration as done:
            self.result = done.value
            return False
        except Carried as carried:
            error = carried.error
        else:
            if type(call) is Call:
                self._call, self.function = call, call.function
                return True
            self._coroutine.close()
            error = RuntimeError(REFUSED)
        raise error

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> bool:
        """Let the coroutine handle what the function has raised; True if it did."""
        coroutine: Any = self._coroutine
        if error is None or coroutine.cr_frame is None:  # its own error has ended it
            return False
        if self._call is None:
            coroutine.close()
            return False
        try:
            self._call.fail(error)
            while self.go_on():
                with self:
                    self.answer = self.function()
        except BaseException:  # what has struck here, before the coroutine went on
            coroutine.close()
            raise
        return True
