"""One call of a decorated function that L1 cannot answer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import Loaded, unwrap_loaded
from cachebridge.errors import L2Error, UncacheableError
from cachebridge.flask_ext.decorators.callbacks import agrees
from cachebridge.flask_ext.http.exchange import PrivacyWatch
from cachebridge.flask_ext.http.responses import (
    CachedResponse,
    consume_generator,
    whole_seconds,
)
from cachebridge.waiting.io import OwnFunction, call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.flask_ext.decorators.base import DecoratedFunction
    from cachebridge.identity.arguments import Args, Kwargs
    from cachebridge.waiting.io import IO


class Computation:
    """One call that L1 cannot answer: find a result, or run the function.

    The decorator decides which results are kept, and for how long; the engine decides
    which caller runs the function.
    """

    def __init__(
        self,
        decorated: DecoratedFunction,
        io: IO,
        key: str,
        args: Args,
        kwargs: Kwargs,
    ) -> None:
        self._decorated = decorated
        self._io = io
        self._key = key
        self._args = args
        self._kwargs = kwargs
        self.watch = PrivacyWatch()
        self.backend = decorated.host.cache
        self.has_run = False
        self.result: Any = MISSING
        """The function's result; MISSING until it is decided whether to keep it."""

    async def answer(self, *, forced: bool) -> Any:
        """Return the kept value, or run the function and keep its result.

        If several callers ask, one of them runs it.  ``forced`` runs it here, whatever
        is kept.  Raises UncacheableError if the result, which is in ``result`` then,
        cannot be serialized.
        """
        if forced:
            return await self._renew()
        load = OwnFunction(self._run_function)
        ttl_ms = self.backend.ttl_ms(whole_seconds(self._decorated.timeout))
        tags = self._decorated.tags_for(self._args, self._kwargs)
        how = self._key, load, ttl_ms
        with self._unserializable_named():
            value = unwrap_loaded(
                await self.backend.calls.load_here(self._io, *how, tags=tags)
            )
        if not self.has_run and await self._is_unwanted(value):
            return await self._renew()
        return value

    async def read(self, *, forced: bool) -> Any:
        """Return the kept value, or run the function for this caller alone."""
        if not forced:
            value = self.backend.local_get(self._key)
            if value is MISSING:
                value = await self.backend.calls.get(self._io, self._key)
            if value is not MISSING and not await self._is_unwanted(value):
                return value
        return (await self._run_function()).value

    async def _renew(self) -> Any:
        """Run the function; its result replaces the kept value."""
        tags = self.backend.calls.new_tags(self._io, self._key)
        with tags, tags:
            names = self._decorated.tags_for(self._args, self._kwargs)
            await tags.begin(names, self._io)
            loaded = await self._run_function()
        if loaded.store:
            ttl_ms = loaded.ttl_ms
            if ttl_ms is ...:
                ttl_ms = self.backend.ttl_ms(whole_seconds(self._decorated.timeout))
            with self._unserializable_named():
                await self.backend.calls.set_computed(
                    self._io, self._key, loaded.value, ttl_ms, tags
                )
        return loaded.value

    async def _run_function(self) -> Loaded:
        """Run it; return its result, whether to keep that, and for how long."""
        self.has_run = True
        self.result = MISSING
        decorated, args, kwargs = self._decorated, self._args, self._kwargs
        decorated.announce(decorated.miss_signal, self._key, args, kwargs)
        try:
            with self.watch:
                result = consume_generator(
                    await call(self._io, decorated.function, *args, **kwargs)
                )
        except HTTPException as exc:
            if not decorated.returns_responses:
                raise
            result = exc
        is_kept = (result is not None or decorated.cache_none) and (
            await decorated.keeps(self._io, self, result)
        )
        self.result = result
        if not is_kept:
            return Loaded(result, store=False)
        own = result.timeout if isinstance(result, CachedResponse) else None
        if not own or not decorated.returns_responses:
            return Loaded(result)
        return Loaded(result, self.backend.ttl_ms(own))

    async def _is_unwanted(self, value: Any) -> bool:
        """Return whether the function must run although a value was found."""
        if value is None and not self._decorated.cache_none:
            return True
        refuses = self._decorated.callbacks.refuses
        return await agrees(self._io, refuses, value, self._args, self._kwargs)

    @contextmanager
    def _unserializable_named(self) -> Iterator[None]:
        """Raise UncacheableError for an error if the function has succeeded."""
        try:
            yield
        except Exception as exc:
            if self.result is MISSING or isinstance(exc, (L2Error, UncacheableError)):
                raise
            kind = type(self.result)
            raise UncacheableError(
                f"a result of type {kind.__module__}.{kind.__qualname__} cannot be "
                f"serialized: {type(exc).__name__}: {exc}"
            ) from exc
