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


@dataclass(slots=True)
class Run:
    """How to run a decorated function in one call, and what came of it."""

    function: Callable[[], Any]
    timeout: Timeout | None
    cache_none: bool
    keeps: Callable[[Any], bool]
    """Whether a result may be kept."""
    before: Callable[[], object]
    """Told that the function is about to run."""
    heeds_response: bool = False
    """Whether a CachedResponse has a say in the timeout."""
    has_run: bool = False
    result: Any = MISSING
    """The result, once it is known whether it may be kept."""

    def __call__(self) -> tuple[Any, bool, int | None]:
        """Run it: the result, whether to keep it, and its own timeout, if any."""
        self.has_run = True
        self.result = MISSING
        self.before()
        result = drained(self.function())
        keep = (result is not None or self.cache_none) and self.keeps(result)
        own = None
        if self.heeds_response and isinstance(result, CachedResponse):
            own = result.timeout or None
        self.result = result
        return result, keep, own


def find(backend: CacheBridgeBackend | NullBackend, key: str, run: Run) -> Any:
    """Return what is kept, else what the function returns, run by one of all callers.

    Raises UncacheableError if that cannot be serialized; ``run.result`` has it then.
    """

    def load() -> Any:
        result, keep, own = run()
        if not keep:
            return Loaded(result, store=False)
        return Loaded(result) if own is None else Loaded(result, backend.ttl_ms(own))

    try:
        return backend.load_here(key, load, whole_seconds(run.timeout))
    except (L2Error, UncacheableError):
        raise
    except Exception as exc:
        if run.result is MISSING:
            raise  # it is the function's own
        raise _unserializable(run.result, exc) from exc


def renew(backend: CacheBridgeBackend | NullBackend, key: str, run: Run) -> Any:
    """Run the function whatever is kept, and keep what it returns.

    Raises UncacheableError if that cannot be serialized.
    """
    result, keep, own = run()
    if keep:
        try:
            backend.set(key, result, whole_seconds(run.timeout) if own is None else own)
        except (L2Error, UncacheableError):
            raise
        except Exception as exc:
            raise _unserializable(result, exc) from exc
    return result


def _unserializable(result: Any, exc: Exception) -> UncacheableError:
    kind = type(result)
    return UncacheableError(
        f"a result of type {kind.__module__}.{kind.__qualname__} cannot be "
        f"serialized: {type(exc).__name__}: {exc}"
    )
