"""What adapters offer of groups: ``group``, ``groups`` and ``memoize``.

Imports nothing of the groups before it is needed: importing cachebridge is cheap.
"""

from __future__ import annotations

from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Never,
    ParamSpec,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from cachebridge.checking.checks import did_you_mean
from cachebridge.config import LoadOverrides
from cachebridge.core.ttl import DEFAULT, Ttl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping

    from cachebridge.core.keys import Tags
    from cachebridge.groups.entries import Entries, Place
    from cachebridge.groups.group import Group
    from cachebridge.groups.memoize import Memoized
    from cachebridge.stats import GroupStats

A = TypeVar("A")
V = TypeVar("V")
P = ParamSpec("P")
R = TypeVar("R")


How: TypeAlias = "tuple[Ttl, bool, LoadOverrides, Tags | Callable[..., Tags]]"
"""TTL, views, overrides, tags."""


class GroupOptions(TypedDict, total=False):
    """How a group keeps and loads its values: see ``group``."""

    ttl: Ttl
    views: bool
    lease_ttl: float | None
    stale_ttl: float | None
    stale_if_error: float | None
    negative_ttl: float | None
    early_refresh: float | None
    tags: Tags | Callable[..., Tags]


class GroupMethods:
    """Base of the adapters: groups of values that are loaded by argument."""

    if TYPE_CHECKING:  # each adapter has them: see ``GroupHost``

        def _find_locally(self, key: str) -> Any: ...

        def _place(self) -> Place | None: ...

    def _groups_of(self) -> object:
        """Return the object whose groups these are: names are unique in it."""
        return self

    @overload
    def group(
        self,
        name: str,
        load: Callable[[A], Coroutine[Any, Any, V]],
        *,
        load_many: Callable[[list[A]], Any] | None = None,
        **options: Unpack[GroupOptions],
    ) -> Group[A, V]: ...

    @overload
    def group(
        self,
        name: str,
        load: Callable[[A], V],
        *,
        load_many: Callable[[list[A]], Any] | None = None,
        **options: Unpack[GroupOptions],
    ) -> Group[A, V]: ...

    @overload
    def group(
        self,
        name: str,
        *,
        load_many: (
            Callable[[list[A]], Coroutine[Any, Any, Mapping[A, V]]]
            | Callable[[list[A]], Mapping[A, V]]
        ),
        **options: Unpack[GroupOptions],
    ) -> Group[A, V]: ...

    def group(
        self,
        name: str,
        load: Callable[[Any], Any] | None = None,
        *,
        load_many: Callable[[list[Any]], Any] | None = None,
        ttl: Ttl = DEFAULT,
        views: bool = False,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
        tags: Tags | Callable[..., Tags] = None,
        **unknown: Never,
    ) -> Group[Any, Any]:
        """Make a group of values: ``load(arg)`` returns one, ``ABSENT`` for none.

        ``load_many(args)`` returns a dict of values by argument; what it leaves out is
        ABSENT.  One of the two is enough.  ``name`` is part of every key.  ``ttl`` is
        in seconds, None without expiry.  ``views``: bytes of 16 KiB and more are
        returned as a read-only ``memoryview``.  ``tags`` is a list, or a function that
        returns one for an argument.  The others are those of ``get_or_load``.

        Raises TypeError, ValueError or ConfigError for what is unusable, and for a name
        that this cache has given to a group of another function.
        """
        from cachebridge.groups.group import Group  # noqa: PLC0415 see above
        from cachebridge.groups.keys import checked_name  # noqa: PLC0415 see above

        _require_known("group", unknown)
        where = f"group {checked_name(name, 'group')!r}"
        functions = {"load": load, "load_many": load_many}
        for role, function in functions.items():
            if function is not None and not callable(function):
                raise TypeError(f"{where}: {role} must be callable, not {function!r}")
        if load is None and load_many is None:
            raise TypeError(f"{where}: give it load, load_many or both")
        overrides = LoadOverrides(
            lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
        )
        terms = ttl, views, overrides, tags
        entries = self._entries(name, load or load_many, *terms)
        return Group(entries, load, load_many)

    def groups(self) -> tuple[GroupStats, ...]:
        """Return the counters of this cache's groups and memoized functions, by name.

        They are those of this process; groups that nothing refers to are gone.
        """
        from cachebridge.groups.tally import stats_of_groups  # noqa: PLC0415 see above

        return stats_of_groups(self._groups_of())

    def _entries(self, name: str, function: Any, *how: *How) -> Entries:
        """Make the entries of a group, and list it."""
        from cachebridge.groups.entries import Entries, Terms  # noqa: PLC0415 see above
        from cachebridge.groups.tally import tally_of  # noqa: PLC0415 see above

        terms = Terms(*how)
        terms.check(f"group {name!r}")
        return Entries(self, terms, tally_of(self._groups_of(), name, function))


def _require_known(method: str, unknown: Mapping[str, Any]) -> None:
    """Raise TypeError for a keyword that there is not, and name the one meant."""
    for name in unknown:
        hint = did_you_mean(name, (*GroupOptions.__annotations__, "ignore"))
        if name == "timeout":
            hint = " The lifetime in seconds is called ttl here: ttl=60"
        raise TypeError(f"{method}() has no parameter {name!r}.{hint}")


class MemoizeMethods(GroupMethods):
    """``memoize`` besides; Flask has its own."""

    def memoize(
        self,
        name: str | None = None,
        *,
        ttl: Ttl = DEFAULT,
        ignore: Collection[str] = (),
        views: bool = False,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
        tags: Tags | Callable[..., Tags] = None,
        **unknown: Never,
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]:
        """Keep the results of a function or method by its arguments.

        Plain functions and coroutine functions.  All processes share the results under
        ``name``, the function's dotted name unless given.  ``ignore`` names parameters
        that are no part of the key.  ``tags`` is a list, or a function that gets the
        arguments of the call and returns one.  The others are those of ``group``.
        ``docs/groups.md`` says what becomes of ``self``.

        Raises TypeError, ValueError or ConfigError for what is unusable.
        """
        from cachebridge.groups.keys import checked_name  # noqa: PLC0415 see above
        from cachebridge.groups.memoize import (  # noqa: PLC0415 see above
            Memoized,
            name_of_function,
            require_function,
            require_names,
        )

        _require_known("memoize", unknown)
        if callable(name):
            raise TypeError("memoize needs parentheses: write @cache.memoize()")
        if isinstance(name, (int, float, timedelta)):
            raise TypeError(
                f"memoize takes the lifetime as a keyword: ttl=60, not {name!r} alone"
            )
        if name is not None:
            checked_name(name, "memoize")
        overrides = LoadOverrides(
            lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
        )

        def decorate(function: Callable[P, R]) -> Memoized[P, R]:
            require_function(function)
            require_names(function, ignore)
            own = name or name_of_function(function, self._groups_of())
            entries = self._entries(own, function, *(ttl, views, overrides, tags))
            return Memoized(function, entries, ignore)

        return decorate
