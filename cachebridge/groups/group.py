"""A group: values of one kind, each loaded by its argument."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import shown_key
from cachebridge.core.loading import refuse_coroutine
from cachebridge.groups.entries import Entries, awaits, require_plain
from cachebridge.groups.keys import text_of_argument
from cachebridge.subscripts import Subscripts
from cachebridge.waiting.io import TASKS, THREADS, call
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.stats import GroupStats
    from cachebridge.waiting.io import IO

A = TypeVar("A")
V = TypeVar("V")


class Group(Subscripts, Generic[A, V]):
    """Values of one kind, each loaded by its argument and shared by all processes.

    ``cache.group`` makes one.  Two arguments have one entry if they are equal and of
    one type: 1, 1.0, True and "1" are four.  An argument without a stable identity
    raises UncacheableError before any loader runs.

    Thread safe.  The methods that begin with ``a`` are the same for tasks; with a
    coroutine function to load only they can load, and the others raise TypeError.
    While the shared store is away ``get`` and ``get_many`` load; see
    ``docs/outages.md``.
    """

    def __init__(
        self,
        entries: Entries,
        load: Callable[[A], Any] | None,
        load_many: Callable[[list[A]], Any] | None,
    ) -> None:
        self._entries = entries
        self._load_many = load_many
        self._load: Callable[[A], Any]
        if load is not None:
            self._load = load
        elif load_many is not None:
            self._load = self._one_in_task if awaits(load_many) else self._one

    def __repr__(self) -> str:
        return f"<group {self.name!r}>"

    @property
    def name(self) -> str:
        """The name, which is part of every key."""
        return self._entries.name

    def stats(self) -> GroupStats:
        """Return the counters of this group in this process."""
        return self._entries.tally.stats()

    # -- reading -----------------------------------------------------------------------

    def get(self, arg: A, default: Any = None) -> V | Any:
        """Return the value, loaded if there is none; ``default`` if it is ABSENT.

        One caller of all threads and processes loads, as with ``get_or_load``.  Raises
        what the loader raises, UncacheableError for the argument.
        """
        key = self._key(arg)
        value = self._entries.local(key)
        if value is MISSING:
            value = run(self._find(THREADS, key, arg))
        return default if value is ABSENT else value

    async def aget(self, arg: A, default: Any = None) -> V | Any:
        """See ``get``; a hit in L1 does not suspend."""
        key = self._key(arg)
        value = self._entries.local(key)
        if value is MISSING:
            value = await self._find(TASKS, key, arg)
        return default if value is ABSENT else value

    def get_many(self, args: Iterable[A]) -> dict[A, V]:
        """Return the values that exist, by argument.

        What is missing is loaded by one call of ``load_many`` (of up to 500
        arguments), else by one of ``load`` each.  Arguments that other threads or
        processes are loading are waited for.  Raises TypeError for an argument that
        cannot be a key of a dict, and ValueError for two that are equal, such as 1 and
        True: one dict cannot hold both.
        """
        return run(self._find_many(THREADS, args))

    async def aget_many(self, args: Iterable[A]) -> dict[A, V]:
        """See ``get_many``."""
        return await self._find_many(TASKS, args)

    def __contains__(self, arg: A) -> bool:
        """Return whether there is a value, without loading one."""
        return run(self._entries.has(THREADS, self._key(arg)))

    # -- changing ----------------------------------------------------------------------

    def invalidate(self, arg: A) -> bool:
        """Delete the value in every process; return whether there was one.

        A load that runs now, anywhere, stores nothing.
        """
        return run(self._entries.forget(THREADS, self._key(arg)))

    async def ainvalidate(self, arg: A) -> bool:
        """See ``invalidate``."""
        return await self._entries.forget(TASKS, self._key(arg))

    def clear(self) -> bool:
        """Delete all values of the group in every process.

        Loads that run now, anywhere, store nothing.  Redis looks at every key of the
        database for it.  Returns False if the shared store is away: then it is done
        when it is back.  Raises UnsupportedOperationError where a key function of the
        application hides the keys.
        """
        return run(self._entries.clear(THREADS))

    async def aclear(self) -> bool:
        """See ``clear``."""
        return await self._entries.clear(TASKS)

    delete = invalidate
    """For ``del group[arg]``."""

    def refresh(self, arg: A, default: Any = None) -> V | Any:
        """Invalidate the value, load it anew and return it.

        What is returned was loaded after this call began.  Raises what the loader
        raises; then there is no value.
        """
        require_plain(THREADS, self._load, repr(self))
        value = run(self._renew(THREADS, arg))
        return default if value is ABSENT else value

    async def arefresh(self, arg: A, default: Any = None) -> V | Any:
        """See ``refresh``."""
        value = await self._renew(TASKS, arg)
        return default if value is ABSENT else value

    # -- how ---------------------------------------------------------------------------

    def _key(self, arg: A) -> str:
        entries = self._entries
        return entries.key(text_of_argument(entries.name, arg))

    async def _find(self, io: IO, key: str, arg: A) -> Any:
        require_plain(io, self._load, repr(self))
        return await self._entries.find(io, key, partial(self._load, arg))

    async def _renew(self, io: IO, arg: A) -> Any:
        return await self._entries.renew(io, self._key(arg), partial(self._load, arg))

    async def _find_many(self, io: IO, args: Iterable[A]) -> dict[A, V]:
        by_key: dict[str, A] = {}
        keys: dict[A, str] = {}
        if isinstance(args, (str, bytes)):
            raise TypeError(f"{self!r}: get_many takes a list of arguments, not a text")
        for arg in args:
            key = self._key(arg)
            try:
                is_other = keys.setdefault(arg, key) != key
            except TypeError as exc:
                raise TypeError(
                    f"{self!r}: get_many cannot answer for a {type(arg).__name__}: its "
                    f"answer is a dict ({exc})"
                ) from exc
            if is_other:
                raise ValueError(
                    f"{self!r}: get_many cannot answer for both {by_key[keys[arg]]!r} "
                    f"and {arg!r}: they are equal, and its answer is a dict"
                )
            by_key[key] = arg
        load_many: Any = self._load_many
        require_plain(io, load_many or self._load, repr(self))

        async def load(missing: list[str]) -> Mapping[str, Any]:
            wanted = [by_key[key] for key in missing]
            loaded = self._checked(await call(io, load_many, wanted), wanted)
            return {key: loaded.get(by_key[key], ABSENT) for key in missing}

        def alone(key: str) -> Callable[[], Any]:
            return partial(self._load, by_key[key])

        batch = None if load_many is None else load
        found = await self._entries.find_many(io, list(by_key), batch, alone)
        return {by_key[key]: found[key] for key in found}

    # -- one argument by ``load_many`` -------------------------------------------------

    def _one(self, arg: A) -> Any:
        load_many: Any = self._load_many
        return self._checked(load_many([arg]), [arg]).get(arg, ABSENT)

    async def _one_in_task(self, arg: A) -> Any:
        load_many: Any = self._load_many
        loaded = load_many([arg])
        if isinstance(loaded, Awaitable):
            loaded = await loaded
        return self._checked(loaded, [arg]).get(arg, ABSENT)

    def _checked(self, loaded: Any, wanted: list[A]) -> Mapping[A, Any]:
        """Return what ``load_many`` has returned; raise for what it must not return.

        An argument that it leaves out is ABSENT.  One that it was not given is an
        error: mostly the same of another type, so that nothing would ever be found.
        """
        refuse_coroutine(loaded)
        if not isinstance(loaded, Mapping):
            raise TypeError(
                f"{self!r}: load_many must return a dict of values by argument, not "
                f"{type(loaded).__name__}"
            )
        asked = set(wanted)
        for arg in loaded:
            if arg not in asked:
                raise ValueError(
                    f"{self!r}: load_many returned a value for {shown_key(arg)}, which "
                    f"it was not given (it was given {shown_key(wanted[0])}, ...): the "
                    "keys of its dict must be arguments that it was given. One that it "
                    "leaves out is ABSENT."
                )
        return loaded
