"""How the decorators' callables are asked: with the arguments they take."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from cachebridge.flask_ext.naming import signature_of

if TYPE_CHECKING:
    from collections.abc import Callable

_ONE: Final = 1


class Callbacks:
    """The conditions of one decorated function; each is asked for ``True`` itself.

    Those of a coroutine function are asked by the methods that begin with ``a``, and
    may be coroutine functions.
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
        """Whether anything is asked before the look-up."""
        self.on_hit = callable(is_stale)
        """Whether anything is asked about a value that was found."""

    def bypasses(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> bool:
        """Tell whether the cache is to be left out of this call."""
        return at_once(self._ask_unless(function, args, kwargs)) is True

    async def abypasses(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> bool:
        """See ``bypasses``."""
        return await awaited(self._ask_unless(function, args, kwargs)) is True

    def _ask_unless(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        unless = self._unless
        if not callable(unless):
            return False
        return unless(function, *args, **kwargs) if self._unless_takes else unless()

    def forces(self, args: tuple[Any, ...], kwargs: Any) -> bool:
        """Tell whether the function must run and its result replace what is kept."""
        return at_once(self._ask_forced_update(args, kwargs)) is True

    async def aforces(self, args: tuple[Any, ...], kwargs: Any) -> bool:
        """See ``forces``."""
        return await awaited(self._ask_forced_update(args, kwargs)) is True

    def _ask_forced_update(self, args: tuple[Any, ...], kwargs: Any) -> Any:
        forced_update = self._forced_update
        if not callable(forced_update):
            return False
        if self._forced_update_takes:
            return forced_update(*args, **kwargs)
        return forced_update()

    def refuses(self, value: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
        """Tell whether the value that was found is stale."""
        return at_once(self._ask_is_stale(value, args, kwargs)) is True

    async def arefuses(self, value: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
        """See ``refuses``."""
        return await awaited(self._ask_is_stale(value, args, kwargs)) is True

    def _ask_is_stale(self, value: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        is_stale = self._is_stale
        if not callable(is_stale):
            return False
        if self._is_stale_takes > _ONE:
            return is_stale(value, *args, **kwargs)
        return is_stale(value)

    def keeps(self, result: Any) -> bool:
        """Tell whether a result may be kept."""
        return self._response_filter is None or bool(
            at_once(self._response_filter(result))
        )

    async def akeeps(self, result: Any) -> bool:
        """See ``keeps``."""
        return self._response_filter is None or bool(
            await awaited(self._response_filter(result))
        )


async def awaited(answer: Any) -> Any:
    """Return an answer, that of a coroutine function once there is one."""
    return await answer if inspect.isawaitable(answer) else answer


def at_once(answer: Any) -> Any:
    """Return an answer; TypeError for one that only a task could have."""
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


def require_plain(function: Callable[..., Any], **callbacks: Any) -> None:
    """Raise TypeError for a callback that a plain function could not await."""
    if inspect.iscoroutinefunction(function):
        return
    for name, callback in callbacks.items():
        if inspect.iscoroutinefunction(callback):
            raise TypeError(
                f"{name} is a coroutine function: only those of coroutine functions "
                f"may be, and {function!r} is none"
            )


def _positional_count(function: Callable[..., Any] | None) -> int:
    """Return how many parameters are not by keyword only."""
    if not callable(function):
        return 0
    return sum(
        each.kind is not inspect.Parameter.KEYWORD_ONLY
        for each in signature_of(function).parameters.values()
    )
