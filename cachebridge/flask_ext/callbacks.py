"""How the decorators' callables are asked: with the arguments they take."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from cachebridge.flask_ext.naming import signature_of

if TYPE_CHECKING:
    from collections.abc import Callable

_ONE: Final = 1


class Callbacks:
    """The conditions of one decorated function; each is asked for ``True`` itself."""

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
        unless = self._unless
        if not callable(unless):
            return False
        if self._unless_takes:
            return unless(function, *args, **kwargs) is True
        return unless() is True

    def forces(self, args: tuple[Any, ...], kwargs: Any) -> bool:
        """Tell whether the function must run and its result replace what is kept."""
        forced_update = self._forced_update
        if not callable(forced_update):
            return False
        if self._forced_update_takes:
            return forced_update(*args, **kwargs) is True
        return forced_update() is True

    def refuses(self, value: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
        """Tell whether the value that was found is stale."""
        is_stale = self._is_stale
        if not callable(is_stale):
            return False
        if self._is_stale_takes > _ONE:
            return is_stale(value, *args, **kwargs) is True
        return is_stale(value) is True

    def keeps(self, result: Any) -> bool:
        """Tell whether a result may be kept."""
        return self._response_filter is None or bool(self._response_filter(result))


def _positional_count(function: Callable[..., Any] | None) -> int:
    """Return how many parameters are not by keyword only."""
    if not callable(function):
        return 0
    return sum(
        each.kind is not inspect.Parameter.KEYWORD_ONLY
        for each in signature_of(function).parameters.values()
    )
