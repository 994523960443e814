"""What the decorators return, for type checkers.

A decorated method binds like any other: read from an object, it takes that object no
longer as an argument.
"""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    overload,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cachebridge.flask_ext.http.responses import Timeout

P = ParamSpec("P")
BoundP = ParamSpec("BoundP")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Owner = TypeVar("Owner")


class BoundCached(Protocol[BoundP, R_co]):
    """A method under ``cached``, bound to an object."""

    cache_timeout: Timeout | None
    make_cache_key: Callable[..., str]

    @property
    def uncached(self) -> Callable[..., R_co]:
        """The method itself, unbound: its first argument is the object."""

    def __call__(self, *args: BoundP.args, **kwargs: BoundP.kwargs) -> R_co:
        """Return what is kept, else what the method returns."""


class BoundMemoized(BoundCached[BoundP, R_co], Protocol[BoundP, R_co]):
    """A method under ``memoize``, bound to an object."""

    delete_memoized: Callable[[], None]
    adelete_memoized: Callable[[], Coroutine[Any, Any, None]]
    amake_cache_key: Callable[..., Coroutine[Any, Any, str]]


class Cached(Protocol[P, R]):
    """A function under ``cached``."""

    uncached: Callable[P, R]
    cache_timeout: Timeout | None
    make_cache_key: Callable[..., str]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what is kept, else what the function returns."""

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...

    @overload
    def __get__(
        self: Cached[Concatenate[Owner, BoundP], R],
        instance: Owner,
        owner: type | None = None,
        /,
    ) -> BoundCached[BoundP, R]: ...

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Bind to an object."""


class Memoized(Cached[P, R], Protocol[P, R]):
    """A function under ``memoize``."""

    delete_memoized: Callable[[], None]
    adelete_memoized: Callable[[], Coroutine[Any, Any, None]]
    amake_cache_key: Callable[..., Coroutine[Any, Any, str]]

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...

    @overload
    def __get__(
        self: Memoized[Concatenate[Owner, BoundP], R],
        instance: Owner,
        owner: type | None = None,
        /,
    ) -> BoundMemoized[BoundP, R]: ...

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Bind to an object."""
