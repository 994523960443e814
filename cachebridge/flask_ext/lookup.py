"""The steps that both decorators share: find, or run the function and keep its result.

What is kept, and for how long, the decorators say; that it is done once, the engine
sees to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import Loaded
from cachebridge.errors import L2Error, UncacheableError
from cachebridge.flask_ext.responses import CachedResponse, drained, whole_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.flask_ext.backend import CacheBridgeBackend
    from cachebridge.flask_ext.null_backend import NullBackend
    from cachebridge.flask_ext.responses import Timeout

    Backend = CacheBridgeBackend | NullBackend


@dataclass(slots=True)
class Run:
    """How to run a decorated function in one call, and what came of it.

    ``function`` and ``keeps`` are coroutine functions for ``acarry_out``.
    """

    function: Callable[[], Any]
    keeps: Callable[[Any], Any]
    """Whether a result may be kept."""
    timeout: Timeout | None
    cache_none: bool
    before: Callable[[], object]
    """Told that the function is about to run."""
    heeds_response: bool = False
    """Whether a CachedResponse has a say in the timeout."""
    has_run: bool = False
    result: Any = MISSING
    """The result, once it is known whether it may be kept."""

    def carry_out(self) -> tuple[Any, bool, int | None]:
        """Run it: the result, whether to keep it, and its own timeout, if any."""
        self._begin()
        result = drained(self.function())
        keep = (result is not None or self.cache_none) and self.keeps(result)
        return self._end(result, keep)

    async def acarry_out(self) -> tuple[Any, bool, int | None]:
        """See ``carry_out``."""
        self._begin()
        result = drained(await self.function())
        keep = (result is not None or self.cache_none) and await self.keeps(result)
        return self._end(result, keep)

    def _begin(self) -> None:
        self.has_run = True
        self.result = MISSING
        self.before()

    def _end(self, result: Any, keep: bool) -> tuple[Any, bool, int | None]:
        own = None
        if self.heeds_response and isinstance(result, CachedResponse):
            own = result.timeout or None
        self.result = result
        return result, keep, own

    def own_error(self, exc: Exception) -> Exception:
        """Return what to raise for an error: the function's own, or that of keeping."""
        if self.result is MISSING or isinstance(exc, (L2Error, UncacheableError)):
            return exc
        kind = type(self.result)
        return UncacheableError(
            f"a result of type {kind.__module__}.{kind.__qualname__} cannot be "
            f"serialized: {type(exc).__name__}: {exc}"
        )


def find(backend: Backend, key: str, run: Run) -> Any:
    """Return what is kept, else what the function returns, run by one of all callers.

    Raises UncacheableError if that cannot be serialized; ``run.result`` has it then.
    """

    def load() -> Any:
        return _loaded(backend, *run.carry_out())

    try:
        return backend.load_here(key, load, whole_seconds(run.timeout))
    except Exception as exc:
        if (error := run.own_error(exc)) is exc:
            raise
        raise error from exc


async def afind(backend: Backend, key: str, run: Run) -> Any:
    """See ``find``; one of all tasks and threads runs it."""

    async def load() -> Any:
        return _loaded(backend, *await run.acarry_out())

    try:
        return await backend.aload_here(key, load, whole_seconds(run.timeout))
    except Exception as exc:
        if (error := run.own_error(exc)) is exc:
            raise
        raise error from exc


def _loaded(backend: Backend, result: Any, keep: bool, own: int | None) -> Any:
    if not keep:
        return Loaded(result, store=False)
    return Loaded(result) if own is None else Loaded(result, backend.ttl_ms(own))


def renew(backend: Backend, key: str, run: Run) -> Any:
    """Run the function whatever is kept, and keep what it returns.

    Raises UncacheableError if that cannot be serialized.
    """
    result, keep, own = run.carry_out()
    if keep:
        try:
            backend.set(key, result, whole_seconds(run.timeout) if own is None else own)
        except Exception as exc:
            if (error := run.own_error(exc)) is exc:
                raise
            raise error from exc
    return result


async def arenew(backend: Backend, key: str, run: Run) -> Any:
    """See ``renew``."""
    result, keep, own = await run.acarry_out()
    if keep:
        try:
            await backend.aset(
                key, result, whole_seconds(run.timeout) if own is None else own
            )
        except Exception as exc:
            if (error := run.own_error(exc)) is exc:
                raise
            raise error from exc
    return result
