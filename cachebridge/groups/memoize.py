"""Memoized functions: the results of a function by the arguments of the call."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import partial, update_wrapper
from hashlib import sha256
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    NamedTuple,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import named
from cachebridge.errors import UncacheableError
from cachebridge.groups.entries import awaits, require_plain
from cachebridge.groups.keys import checked_name
from cachebridge.identity.arguments import NO_REST, CallShape
from cachebridge.identity.naming import signature_of, variant_of
from cachebridge.identity.values import require_stable, stable_text_of, type_name
from cachebridge.waiting.io import TASKS, THREADS, mark_coroutine_function
from cachebridge.waiting.run import Steps, run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cachebridge.groups.entries import Entries
    from cachebridge.stats import GroupStats
    from cachebridge.waiting.io import IO

P = ParamSpec("P")
BoundP = ParamSpec("BoundP")
R = TypeVar("R")
Owner = TypeVar("Owner")
_VARIANT_CHARS: Final = 12


class CacheInfo(NamedTuple):
    """What ``functools.lru_cache`` tells of a function; no process knows the sizes."""

    hits: int
    misses: int
    maxsize: int | None = None
    currsize: int | None = None


class Memoized(Generic[P, R]):
    """A function whose results are kept by the arguments of the call.

    It is called as the function is, and may be a method.  ``uncached`` is the function
    itself.  ABSENT as a result becomes None.  Thread safe.
    """

    uncached: Callable[P, R]

    def __init__(
        self, function: Callable[P, R], entries: Entries, ignored: Collection[str]
    ) -> None:
        self.uncached = function
        self._entries = entries
        self._ignored = ignored
        self._shape = CallShape(function, ignored, name_owner=_name_of_owner)
        self._awaits = awaits(function)
        update_wrapper(self, function)
        if self._awaits:
            mark_coroutine_function(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what is kept, else what the function returns."""
        if not self._shape.admits(args, kwargs):
            return self.uncached(*args, **kwargs)  # it raises
        key = self._key(args, kwargs)
        if self._awaits:
            return self._acall(key, args, kwargs)  # type: ignore[return-value] # R is awaitable
        value = self._entries.local(key)
        if value is MISSING:
            function = partial(self.uncached, *args, **kwargs)
            with Steps(self._entries.find(THREADS, key, function)) as steps:
                while steps.go_on():  # this very frame calls the function
                    steps.answer = steps.function()
            value = steps.result
        return None if value is ABSENT else value  # type: ignore[return-value] # as documented

    async def _acall(self, key: str, args: Any, kwargs: Any) -> Any:
        value = self._entries.local(key)
        if value is MISSING:
            function = partial(self.uncached, *args, **kwargs)
            value = await self._entries.find(TASKS, key, function)
        return None if value is ABSENT else value

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of a call in every process; return whether there was one.

        A call that runs now, anywhere, stores nothing.
        """
        return run(self._entries.forget(THREADS, self._required(args, kwargs)))

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """See ``invalidate``."""
        return await self._entries.forget(TASKS, self._required(args, kwargs))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Invalidate the result of a call, call the function and return its result.

        Raises TypeError for a coroutine function: await ``arefresh``.
        """
        require_plain(THREADS, self.uncached, self._entries.name)
        value: R = run(self._renew(THREADS, args, kwargs))
        return value

    async def arefresh(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """See ``refresh``; returns the awaited result."""
        return await self._renew(TASKS, args, kwargs)

    async def _renew(self, io: IO, args: Any, kwargs: Any) -> Any:
        key = self._required(args, kwargs)
        function = partial(self.uncached, *args, **kwargs)
        value = await self._entries.renew(io, key, function)
        return None if value is ABSENT else value

    def clear(self) -> bool:
        """Delete the results of all calls in every process; see ``Group.clear``.

        Of a method: with all its objects.
        """
        return run(self._entries.clear(THREADS))

    async def aclear(self) -> bool:
        """See ``clear``."""
        return await self._entries.clear(TASKS)

    def stats(self) -> GroupStats:
        """Return the counters of this function in this process."""
        return self._entries.tally.stats()

    # -- as functools.lru_cache names them ---------------------------------------------

    cache_delete = invalidate
    acache_delete = ainvalidate
    cache_clear = clear
    acache_clear = aclear

    def cache_info(self) -> CacheInfo:
        """Return hits and misses of this process; see ``stats``."""
        tally = self._entries.tally
        return CacheInfo(tally.hits, tally.loads)

    # -- keys --------------------------------------------------------------------------

    def _key(self, args: Any, kwargs: Any) -> str:
        """Return the key of a call; UncacheableError if an argument has no identity."""
        try:
            text = self._shape.text(args, kwargs)
            require_stable(text)
        except UncacheableError as exc:
            raise named(exc, self._place_of_error(args, kwargs))  # noqa: B904 the same exception
        return self._entries.key(text.removesuffix(NO_REST))

    def _place_of_error(self, args: Any, kwargs: Any) -> str:
        """Name the function, and the parameter whose argument has no identity."""
        given = signature_of(self.uncached).bind(*args, **kwargs).arguments
        for name, value in given.items():
            if name != self._shape.owner and name not in self._ignored:
                try:
                    stable_text_of(value)
                except UncacheableError:
                    return f"{self._entries.name}(), parameter {name!r}"
        return f"{self._entries.name}()"

    def _required(self, args: Any, kwargs: Any) -> str:
        """Return the key of a call; TypeError for one that the function refuses."""
        signature_of(self.uncached).bind(*args, **kwargs)
        return self._key(args, kwargs)

    # -- methods -----------------------------------------------------------------------

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
        return self if instance is None else BoundMemoized(self, instance)


class BoundMemoized(Generic[P, R]):
    """A memoized method of one object."""

    def __init__(self, function: Memoized[Any, R], owner: Any) -> None:
        self.__func__ = function
        self.__self__ = owner

    def __getattr__(self, name: str) -> Any:
        if name == "__func__":  # ``copy`` asks before there is one
            raise AttributeError(name)
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is the same method of the same object."""
        return (
            isinstance(other, BoundMemoized)
            and self.__func__ is other.__func__
            and self.__self__ is other.__self__
        )

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what is kept, else what the method returns."""
        return self.__func__(self.__self__, *args, **kwargs)

    @property
    def uncached(self) -> Callable[P, R]:
        """The method itself, bound."""
        return partial(self.__func__.uncached, self.__self__)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """See ``Memoized.invalidate``."""
        return self.__func__.invalidate(self.__self__, *args, **kwargs)

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """See ``Memoized.invalidate``."""
        return await self.__func__.ainvalidate(self.__self__, *args, **kwargs)

    cache_delete = invalidate
    acache_delete = ainvalidate

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """See ``Memoized.refresh``."""
        return self.__func__.refresh(self.__self__, *args, **kwargs)

    async def arefresh(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """See ``Memoized.refresh``."""
        return await self.__func__.arefresh(self.__self__, *args, **kwargs)


def require_function(function: Any) -> None:
    """Raise TypeError for what cannot be memoized."""
    if not callable(function) or isinstance(function, (type, staticmethod)):
        raise TypeError(
            f"memoize: {function!r} is no function; put @staticmethod, @classmethod "
            "and @property above @cache.memoize()"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"memoize: {function!r} is a generator function: return a list instead"
        )


def require_names(function: Callable[..., Any], ignored: Any) -> None:
    """Raise TypeError or ValueError unless these are names of its parameters."""
    is_list = isinstance(ignored, (list, tuple, set, frozenset))
    if not (is_list and all(isinstance(each, str) for each in ignored)):
        raise TypeError(
            f"memoize: ignore must be a list of names of parameters, not {ignored!r}"
        )
    names = signature_of(function).parameters
    for name in ignored:
        if name not in names:
            raise ValueError(
                f"memoize: ignore has {name!r}, but the parameters of {function!r} are "
                f"{', '.join(names) or 'none'}"
            )


def name_of_function(function: Callable[..., Any], scope: object) -> str:
    """Return the name under which the results of a function are kept.

    That is its dotted name; functions in functions, and lambdas, have what tells them
    apart from others in the ``scope`` in it.  Raises ValueError if it needs a name.
    """
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", None)
    if not (module and qualified):
        raise ValueError(f"memoize: give a name to {function!r}, which has none")
    name = f"{module}.{qualified}"
    if variant := variant_of(function, scope):
        name += f"#{sha256(variant.encode()).hexdigest()[:_VARIANT_CHARS]}"
    return checked_name(name, "memoize: give it another name=")


def _name_of_owner(owner: Any, _compatible: bool) -> str:
    """Return what tells the object of a method from others; nothing if it has no state.

    Raises UncacheableError for an object with attributes that nothing tells: whether
    the method depends on them cannot be known.
    """
    kind = type(owner)
    if _tells_nothing(kind) and not _has_state(owner):
        return ""
    with suppress(UncacheableError):
        return stable_text_of(owner)
    if isinstance(owner, type):
        return type.__repr__(owner)
    raise UncacheableError(
        f"the object, a {type_name(kind)}, has attributes, and nothing tells it from "
        "others. Give its class a __repr__ that does, or a __caching_id__(); if "
        "results do not depend on the object, say ignore=['self']."
    )


def _tells_nothing(kind: Any) -> bool:
    """Return whether a class says nothing of how its objects are told apart."""
    return (
        kind.__repr__ is object.__repr__
        and kind.__eq__ is object.__eq__
        and kind.__reduce__ is object.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and not hasattr(kind, "__caching_id__")
        and not hasattr(kind, "pk")
    )


def _has_state(owner: Any) -> bool:
    """Return whether an object has attributes, or what only C can see."""
    try:
        reduced = object.__reduce_ex__(owner, 2)
    except TypeError:
        return True
    return isinstance(reduced, str) or reduced[2] is not None
