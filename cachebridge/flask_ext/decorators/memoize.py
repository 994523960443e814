"""``memoize``: results by the arguments of the call.

A key is a digest of the arguments, then the version of the function; for a method also
the version of the object.  A version is an entry itself, in L2 and L1.  When it is
replaced, entries with the old version are never found again.
"""

from __future__ import annotations

import base64
import inspect
import math
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from cachebridge.core.entry import MISSING, Missing
from cachebridge.errors import L2Error, UncacheableError
from cachebridge.flask_ext.decorators.base import (
    DecoratedFunction,
    Decoration,
    decorated_of,
)
from cachebridge.flask_ext.decorators.callbacks import at_once, require_plain
from cachebridge.flask_ext.decorators.computation import Computation
from cachebridge.flask_ext.http.responses import whole_seconds
from cachebridge.flask_ext.signals import cache_memoize_hit, cache_memoize_miss
from cachebridge.identity.arguments import CallShape
from cachebridge.identity.naming import (
    CLASS_NEEDED,
    function_namespace,
    namespace_of,
    namespace_of_owner,
    positional_names,
    variant_of,
)
from cachebridge.waiting.io import TASKS, THREADS, call
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cachebridge.flask_ext.backend.base import Backend
    from cachebridge.flask_ext.decorators.base import Watched
    from cachebridge.identity.arguments import Args, Kwargs
    from cachebridge.waiting.io import IO

VERSION_MARK: Final = "_memver"
_WAYS_OUT: Final = (
    "Read it where the function is called and give it as an argument, or set "
    "store_unshareable=True if the arguments tell users apart"
)
_VERSION_CHARS: Final = 6
_DIGEST_CHARS: Final = 16
_SLACK: Final = 64
"""A version outlives its latest entry by 1/64 of the timeout, at least a second.

Its own timeout is renewed no more often, because a renewal drops it from every L1.
"""


class MemoizedFunction(DecoratedFunction):
    """What ``memoize`` knows about the function it decorates."""

    hit_signal = cache_memoize_hit
    miss_signal = cache_memoize_miss
    returns_responses = False
    raised_errors = (UncacheableError, L2Error)

    def __init__(
        self,
        function: Callable[..., Any],
        decoration: Decoration,
        *,
        make_name: Callable[..., str] | None,
        args_to_ignore: Collection[str],
        store_unshareable: bool,
    ) -> None:
        super().__init__(function, decoration)
        self._make_name = make_name if callable(make_name) else None
        self._args_to_ignore = args_to_ignore
        self._store_unshareable = store_unshareable
        self._shape = shape = CallShape(self.function, args_to_ignore)
        self._admits = shape.admits
        self._awaits_name = self._is_async and self._make_name is not None
        self._namespace = namespace_of(self.function)
        self._variant = variant_of(self.function, self.host)
        self._version_key = self._namespace + VERSION_MARK
        self._has_owner = shape.owner == "self" and not self.ignores_owner

    @property
    def ignores_owner(self) -> bool:
        """Whether a method's entries are those of its class, not of one object."""
        return "self" in self._args_to_ignore

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place."""
        require_plain(self.function, make_name=self._make_name)
        wrapper = super().wrapper()
        wrapper.amake_cache_key = self.amake_key
        wrapper.delete_memoized = partial(self.host.delete_memoized, wrapper)
        wrapper.adelete_memoized = partial(self.host.adelete_memoized, wrapper)
        return wrapper

    # -- one call ------------------------------------------------------------------

    async def _find(
        self, io: IO, key: str, args: Args, kwargs: Kwargs, *, forced: bool
    ) -> Any:
        computation = Computation(self, io, key, args, kwargs)
        value = await computation.answer(forced=forced)
        if computation.has_run:
            await self._keep_versions_alive(io, computation.backend, args)
        else:
            self.announce(cache_memoize_hit, key, args, kwargs)
        return value

    async def keeps(self, io: IO, computation: Watched, result: Any) -> bool:
        """Return whether a result may be kept: not if it depends on the user.

        Whether its arguments tell users apart, only the application knows.
        """
        watch = computation.watch
        is_private = watch.has_read or watch.has_read_login
        if is_private and not self._store_unshareable:
            self.tell_privacy(_WAYS_OUT)
            return False
        return await super().keeps(io, computation, result)

    def announce(self, signal: Any, key: str, args: Args, kwargs: Kwargs) -> None:
        """Send the signal of a hit or a miss, if signals are on."""
        host = self.host
        if host.enable_signals:
            signal.send(
                cache=host, cache_key=key, f=self.function, args=args, kwargs=kwargs
            )

    # -- keys ------------------------------------------------------------------------

    def make_key(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        """Return the key of a call; ``f`` is the undecorated function."""
        if inspect.iscoroutinefunction(self._make_name):
            raise TypeError("make_name is a coroutine function: await the key")
        return run(self._of(f)._key(THREADS, self.host.cache, args, kwargs))  # noqa: SLF001 its own

    async def amake_key(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        """See ``make_key``."""
        return await self._of(f)._key(TASKS, self.host.cache, args, kwargs)  # noqa: SLF001 its own

    def _of(self, f: Callable[..., Any]) -> Self:
        """Return this for another function, with the same parameters."""
        if f is self.function:
            return self
        return type(self)(
            f,
            self._decoration,
            make_name=self._make_name,
            args_to_ignore=self._args_to_ignore,
            store_unshareable=self._store_unshareable,
        )

    def _key_at_hand(self, backend: Backend, args: Args, kwargs: Kwargs) -> str | None:
        if self._awaits_name:
            return None
        if self._shape.owner:
            version = self._method_version_at_hand(backend, args)
        else:
            version = backend.local_get(self._version_key)
        if version is MISSING:
            return None
        name = self._namespace
        if self._make_name is not None:
            name = at_once(self._make_name(name))
        return self._key_of(name, version, args, kwargs)

    async def _key(self, io: IO, backend: Backend, args: Args, kwargs: Kwargs) -> str:
        self._require_owner(args)
        version = await self._get_versions(io, backend, args)
        name = self._namespace
        if self._make_name is not None:
            name = at_once(await call(io, self._make_name, name))
        return self._key_of(name, version, args, kwargs)

    def _key_of(self, name: str, version: str, args: Args, kwargs: Kwargs) -> str:
        compatible = self.host.compatible_keys
        text = self._shape.text(args, kwargs, compatible)
        if self._variant and not compatible:
            text += self._variant
        return f"{self._digest(f'{name}{text}')}{version}"

    def _digest(self, text: str) -> str:
        new_hash = self._hash_method or self.host.hash_method
        digest = new_hash(text.encode())
        if self._checks_source():
            digest.update(self._source_bytes())
        return base64.b64encode(digest.digest())[:_DIGEST_CHARS].decode()

    # -- versions ----------------------------------------------------------------------

    def _method_version_at_hand(self, backend: Backend, args: Args) -> Any | Missing:
        """Return the versions of function and object; MISSING unless L1 has both."""
        self._require_owner(args)
        if not self._has_owner:
            return backend.local_get(self._version_key)
        found: list[Any] = [backend.local_get(key) for key in self._version_keys(args)]
        try:
            return "".join(found)
        except TypeError:  # MISSING, or another type
            return MISSING

    def _require_owner(self, args: Args) -> None:
        if self._shape.owner == "cls" and not (args and inspect.isclass(args[0])):
            raise ValueError(CLASS_NEEDED)

    def _version_keys(self, args: Args) -> list[str]:
        if not (self._has_owner and args):
            return [self._version_key]
        of_owner = namespace_of_owner(
            self.function, args[0], compatible=self.host.compatible_keys
        )
        return [self._version_key, of_owner + VERSION_MARK]

    async def _get_versions(self, io: IO, backend: Backend, args: Args) -> str:
        """Return the versions; make those that do not exist."""
        keys = self._version_keys(args)
        found: dict[str, Any] = {key: backend.local_get(key) for key in keys}
        if missed := [key for key in keys if found[key] is MISSING]:
            found.update(await backend.calls.get_many(io, missed))
        for key in keys:
            if type(found[key]) is not str:
                found[key] = await self._new_version(io, backend, key)
        return "".join(found.values())

    async def _new_version(self, io: IO, backend: Backend, key: str) -> str:
        """Make a version; return that of another process if it was first."""
        timeout = self._version_timeout(backend)
        ttl_ms = backend.ttl_ms(timeout)
        version = base64.b64encode(uuid.uuid4().bytes)[:_VERSION_CHARS].decode()
        kept = await backend.calls.load_here(io, key, lambda: version, ttl_ms)
        if kept == version and timeout > 0:
            slack_s = timeout / (_SLACK + 1)
            await backend.calls.keep_alive(io, key, ttl_ms, slack_s, is_new=True)
        return str(kept)

    async def _keep_versions_alive(self, io: IO, backend: Backend, args: Args) -> None:
        """Prolong the versions so that they outlive the entry just made."""
        timeout = self._version_timeout(backend)
        if timeout <= 0:
            return
        ttl_ms = backend.ttl_ms(timeout)
        for key in self._version_keys(args):
            await backend.calls.keep_alive(io, key, ttl_ms, timeout / (_SLACK + 1))

    def _version_timeout(self, backend: Backend) -> int:
        """Return the timeout of a version, in cachelib's whole seconds."""
        own = whole_seconds(self.timeout)
        seconds = backend.default_timeout if own is None else own
        return math.ceil(seconds * (_SLACK + 1) / _SLACK)


# -- deleting entries ------------------------------------------------------------------


def memoized_of(f: object) -> MemoizedFunction:
    """Return what ``memoize`` knows of a function; TypeError if it has not made it."""
    memoized = decorated_of(f, MemoizedFunction)
    if memoized is not None:
        return memoized
    raise TypeError(
        f"{f!r} is not memoized: give the function that @cache.memoize() has returned"
    )


def version_key_of(f: Any) -> str:
    """Return the key of a function's version; deleting it deletes all entries.

    For a bound method: those of its object.  Raises TypeError if ``f`` is not memoized.
    """
    memoized = memoized_of(f)
    compatible = memoized.host.compatible_keys
    whole, of_owner = function_namespace(f, compatible=compatible)
    if memoized.ignores_owner:
        of_owner = None
    return (of_owner or whole) + VERSION_MARK


def with_owner(f: Any, args: Args) -> tuple[Any, ...]:
    """Return the arguments with a bound method's object in front."""
    memoized_of(f)
    owner = getattr(f, "__self__", None)
    if owner is None or isinstance(owner, type):
        return args
    names = positional_names(f.uncached)
    if names[:1] != ["self"] or (args and args[0] is owner):
        return args
    return (owner, *args)
