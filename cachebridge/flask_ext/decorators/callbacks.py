"""The conditions of a decorated function; a plain one awaits none of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from cachebridge.identity.naming import signature_of
from cachebridge.waiting.io import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.identity.arguments import Args, Kwargs
    from cachebridge.waiting.io import IO

_ONE: Final = 1


class Callbacks:
    """The conditions of one decorated function.

    Each method calls one with the arguments that it takes, and returns its answer: an
    awaitable if it is a coroutine function.  Only ``True`` itself counts as yes.
    """

    def __init__(
        self,
        unless: Callable[..., Any] | None,
        forced_update: Callable[..., Any] | None,
        is_stale: Callable[..., Any] | None,
        response_filter: Callable[..., Any] | None,
    ) -> None:
        self._unless = unless
        self._forced_update = forced_update
        self._is_stale = is_stale
        self._response_filter = response_filter
        self._unless_takes = _positional_count(unless)
        self._forced_update_takes = _positional_count(forced_update)
        self._is_stale_takes = _positional_count(is_stale)
        self.before = callable(unless) or callable(forced_update)
        """Whether a condition is asked before the look-up."""
        self.on_hit = callable(is_stale)
        """Whether a condition is asked about a value that was found."""

    def require_plain(self, function: Callable[..., Any]) -> None:
        """Raise TypeError for a condition that a plain function could not await."""
        require_plain(
            function,
            unless=self._unless,
            forced_update=self._forced_update,
            is_stale=self._is_stale,
            response_filter=self._response_filter,
        )

    def bypasses(self, function: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """Return whether this call leaves the cache out."""
        unless = self._unless
        if not callable(unless):
            return False
        return unless(function, *args, **kwargs) if self._unless_takes else unless()

    def forces(self, args: Args, kwargs: Kwargs) -> Any:
        """Return whether the function must run and its result replace what is kept."""
        forced_update = self._forced_update
        if not callable(forced_update):
            return False
        if self._forced_update_takes:
            return forced_update(*args, **kwargs)
        return forced_update()

    def refuses(self, value: Any, args: Args, kwargs: Kwargs) -> Any:
        """Return whether the value that was found is stale."""
        is_stale = self._is_stale
        if not callable(is_stale):
            return False
        if self._is_stale_takes > _ONE:
            return is_stale(value, *args, **kwargs)
        return is_stale(value)

    def keeps(self, result: Any) -> Any:
        """Return whether a result may be kept; any true answer counts as yes."""
        return self._response_filter is None or self._response_filter(result)


async def agrees(io: IO, callback: Callable[..., Any], /, *args: Any) -> bool:
    """Return whether a callback answers ``True`` itself; see ``agrees_now``."""
    return agrees_now(await call(io, callback, *args))


def agrees_now(answer: Any) -> bool:
    """Return whether an answer is ``True`` itself; TypeError for one to be awaited."""
    return at_once(answer) is True


def at_once(answer: Any) -> Any:
    """Return an answer; TypeError for one that only a task could await."""
    if not inspect.isawaitable(answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise TypeError(
        f"{answer!r} has to be awaited: use a coroutine function, or the method that "
        "begins with a"
    )


def plain_key(key: Any) -> str:
    """Return a key that a callable has made; TypeError for one to be awaited."""
    return key if type(key) is str else str(at_once(key))


def require_plain(function: Callable[..., Any], **callables: Any) -> None:
    """Raise TypeError for a callable that a plain function could not await."""
    if inspect.iscoroutinefunction(function):
        return
    for name, each in callables.items():
        if inspect.iscoroutinefunction(each):
            raise TypeError(
                f"{name} is a coroutine function: only those of coroutine functions "
                f"may be, and {function!r} is none"
            )


def _positional_count(function: Callable[..., Any] | None) -> int:
    """Return how many parameters can be given by position."""
    if not callable(function):
        return 0
    return sum(
        each.kind is not inspect.Parameter.KEYWORD_ONLY
        for each in signature_of(function).parameters.values()
    )
