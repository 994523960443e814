"""What the decorators return, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.flask_ext.responses import Timeout

P = ParamSpec("P")
R = TypeVar("R")


class Cached(Protocol[P, R]):
    """A function under ``cached``."""

    uncached: Callable[P, R]
    cache_timeout: Timeout | None
    make_cache_key: Callable[..., str]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what is kept, else what the function returns."""

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any: ...


class Memoized(Cached[P, R], Protocol[P, R]):
    """A function under ``memoize``."""

    delete_memoized: Callable[[], None]
