"""cachelib's cache interface: translate, call the engine, translate back.

No caching rule lives here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachelib import BaseCache
from cachelib.serializers import BaseSerializer
from flask import Flask
from markupsafe import Markup

from cachebridge.config import parse_options
from cachebridge.core.entry import ABSENT, MISSING, Missing
from cachebridge.core.keys import pattern_of_prefix
from cachebridge.core.loading import Loaded
from cachebridge.core.ttl import to_milliseconds
from cachebridge.engine.binding import Binding
from cachebridge.engine.operating import Operated
from cachebridge.engine.registry import engine_apart, engine_for
from cachebridge.errors import (
    CounterUnavailableError,
    MissingKeyError,
    UnsupportedOperationError,
)
from cachebridge.flask_ext.abackend import INC_ATTEMPTS, AsyncMethods
from cachebridge.flask_ext.background import in_app
from cachebridge.flask_ext.config import (
    REDIS,
    BackendSettings,
    backend_settings,
    bridge_options,
    merged,
)
from cachebridge.flask_ext.null_backend import never
from cachebridge.flask_ext.serializers import (
    BridgeSerializer,
    SerializerAttribute,
    engine_serializer,
)
from cachebridge.l1.copies import register_immutable
from cachebridge.l2.location import hide_password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.engine import Engine
    from cachebridge.engine.guarded import Guarded

register_immutable(Markup)

_MOST_KEPT_ALIVE: Final = 10_000


class CacheBridgeBackend(AsyncMethods, Operated, BaseCache):
    """The two-level cache behind cachelib's interface.  Thread safe.

    ``CacheBridgeBackend("redis://host/0", key_prefix="...", options={...})``, the
    options being those of ``CACHE_BRIDGE``.  Flask-Caching makes one if its
    ``CACHE_TYPE`` is this class's path; Flask-Session takes one as its cachelib store.

    A timeout of 0 is without expiry, None is the default timeout, less than 0 is over
    at once.  The methods that begin with ``a`` are the same for tasks.
    """

    def __init__(
        self,
        location: str | Flask,
        config: Mapping[str, Any] | None = None,
        args: Sequence[Any] = (),
        cache_options: Mapping[str, Any] | None = None,
        *,
        default_timeout: int | timedelta = 300,
        key_prefix: str | Callable[[], str] = "",
        ignore_delete_many_errors: bool = True,
        serializer: BaseSerializer | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(location, Flask):
            settings = backend_settings(
                merged(config), kind=REDIS, arguments=args, options=cache_options
            )
        else:
            engine_options, own_options = parse_options(bridge_options(options or {}))
            settings = BackendSettings(
                location=location,
                engine_options=engine_options,
                cache_options=own_options,
                default_timeout=default_timeout,
                key_prefix=key_prefix,
                ignore_delete_many_errors=ignore_delete_many_errors,
                serializer=serializer,
            )
        self._open(settings)

    @classmethod
    def from_settings(cls, settings: BackendSettings) -> CacheBridgeBackend:
        """Make a backend of a whole configuration."""
        backend = cls.__new__(cls)
        backend._open(settings)  # noqa: SLF001 of this very class
        return backend

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        given = cls.__dict__.get("serializer")
        if isinstance(given, BaseSerializer):  # cachelib's way to choose one
            cls.class_serializer = given
            del cls.serializer

    serializer = SerializerAttribute()
    class_serializer: BaseSerializer = BridgeSerializer()
    """That of objects for which none was chosen."""

    def _open(self, settings: BackendSettings) -> None:
        super().__init__(
            settings.default_timeout,
            ignore_delete_many_errors=settings.ignore_delete_many_errors,
        )
        self.key_prefix = settings.key_prefix
        self._engine = engine = self._engine_of(settings)
        self._options = settings.cache_options
        self._serializer = settings.serializer
        self._alive_until: dict[str, float] = {}
        self._bind()
        engine.welcome(self)

    def _engine_of(self, settings: BackendSettings) -> Engine:
        if settings.memory_threshold is not None:
            engine = engine_apart(settings.location, settings.engine_options)
            engine.bound_memory(settings.memory_threshold)
            return engine
        shown = hide_password(str(settings.location))
        return engine_for(
            settings.location,
            settings.engine_options,
            user=f"the Flask cache {shown!r} with prefix {self.key_prefix!r}",
        )

    def _bind(self) -> None:
        serializer = self._serializer or self.class_serializer
        is_ours = type(serializer) is BridgeSerializer
        self._binding = Binding(
            self._engine,
            self._options,
            serializer=None if is_ours else engine_serializer(serializer),
            behind=in_app,
        )
        self._foreground = self._binding.terms_with(stale_ttl=0, early_refresh=0)
        self.probe: Callable[[str], Any | Missing] = never
        """The value of a key if L1 has it at hand; for callers in a hurry."""
        if type(self.key_prefix) is str:
            self.probe = self._binding.probe
            if self.key_prefix:
                self._binding.can_be_cleared_by(pattern_of_prefix(self.key_prefix))

    def use_serializer(self, serializer: BaseSerializer) -> None:
        """Read and write by another serializer from now on."""
        self._serializer = serializer
        self._bind()

    def serializer_in_use(self) -> BaseSerializer:
        """Return the serializer."""
        return self._serializer or self.class_serializer

    # -- reading -----------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """Return the value, None if there is none."""
        value = self.lookup(key)
        return None if value is MISSING else value

    def lookup(self, key: str) -> Any | Missing:
        """Return the value, MISSING if there is none: unlike ``get`` it has None."""
        if type(key) is str:
            value = self.probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        return operations.get(full_key)

    def get_many(self, *keys: str) -> list[Any]:
        """Return a value or None for each key; one round trip for what L1 lacks."""
        found = self._find(keys)
        return [found.get(key) for key in keys]

    def get_dict(self, *keys: str) -> dict[str, Any]:
        """Return a value or None by key."""
        found = self._find(keys)
        return {key: found.get(key) for key in keys}

    def _find(self, keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        missed = list(keys)
        if self.probe is not never:
            found, missed = self._binding.probe_many(missed)
        for operations, names in self._binding.group(missed, self._locate):
            for full_key, value in operations.get_many(names).items():
                found[names[full_key]] = value
        return found

    def has(self, key: str) -> bool:
        """Tell whether the key exists."""
        operations, full_key = self._locate(key)
        return operations.has_key(full_key)

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        timeout: int | timedelta | None = None,
        *,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> Any:
        """Return the value, or run the loader and store what it returns.

        It runs once however many threads and processes ask.  A loader that returns
        ``ABSENT`` says "no such thing": then callers get ``default``.  The others
        override the cache's options for this call.
        """
        if type(key) is str:
            value = self.probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        terms = self._binding.terms_with(
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )
        ttl_ms = self.ttl_ms(timeout)
        value = operations.get_or_load(full_key, loader, ttl_ms, terms)
        return default if value is ABSENT else value

    def load_here(
        self, key: str, loader: Callable[[], Any], timeout: int | timedelta | None
    ) -> Any:
        """Return the value or what the loader returns, run in this very thread.

        For what needs the request: there is no refresh in the background.
        """
        value = self.probe(key)
        if value is not MISSING:
            return value
        operations, full_key = self._locate(key)
        ttl_ms = self.ttl_ms(timeout)
        value = operations.get_or_load(full_key, loader, ttl_ms, self._foreground)
        return value.value if isinstance(value, Loaded) else value

    # -- writing -----------------------------------------------------------------------

    def set(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool | None:
        """Set the value; every other process drops its copy.  True if it was done."""
        operations, full_key = self._locate(key)
        return operations.set(full_key, value, self.ttl_ms(timeout))

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Set the value and its timeout in one step, unless the key exists."""
        operations, full_key = self._locate(key)
        return operations.add(full_key, value, self.ttl_ms(timeout))

    def set_many(
        self, mapping: Mapping[str, Any], timeout: int | timedelta | None = None
    ) -> list[Any]:
        """Set all values in one round trip; return the keys of those that were."""
        ttl_ms = self.ttl_ms(timeout)
        failed: set[Any] = set()
        for operations, names in self._binding.group(mapping, self._locate):
            values = {full_key: mapping[key] for full_key, key in names.items()}
            refused = operations.set_many(values, ttl_ms)
            failed.update(names[each] for each in refused)
        return [key for key in mapping if key not in failed]

    def touch(self, key: str, timeout: int | timedelta | None = None) -> bool:
        """Give the key a new timeout; tell whether it exists."""
        operations, full_key = self._locate(key)
        return operations.touch(full_key, self.ttl_ms(timeout))

    def keep_alive(
        self, key: str, timeout: int, slack_s: float, *, is_new: bool = False
    ) -> None:
        """Give the key its timeout again, at most once in ``slack_s``.

        Not while Redis is away: what L1 has of the key would only be lost.
        """
        is_due = self._must_prolong(key, slack_s)
        if is_due and (not is_new or self._options.ttl_jitter):
            self.touch(key, timeout)

    def _must_prolong(self, key: str, slack_s: float) -> bool:
        """Tell whether it is time to, and that it is being done."""
        now = self._engine.clock()
        is_away = self._engine.outage.began_at is not None
        if is_away or now < self._alive_until.get(key, 0.0):
            return False
        if len(self._alive_until) >= _MOST_KEPT_ALIVE:
            self._alive_until.clear()
        self._alive_until[key] = now + slack_s
        return True

    def delete(self, key: str) -> bool:
        """Delete the key everywhere; tell whether it existed."""
        operations, full_key = self._locate(key)
        return operations.delete(full_key)

    def delete_many(self, *keys: str) -> list[Any]:
        """Delete all keys in one round trip; return those that are gone.

        While Redis is away that is none; they will be deleted when it is back.
        """
        owed = self._engine.outage.debts
        gone: set[Any] = set()
        for operations, names in self._binding.group(keys, self._locate):
            operations.delete_many(names)
            gone.update(
                name for each, name in names.items() if not owed.concern([each])
            )
        return [key for key in keys if key in gone]

    def unlink(self, *keys: str) -> int:
        """Delete all keys in one round trip; return how many existed."""
        return sum(
            [
                operations.delete_many(names)
                for operations, names in self._binding.group(keys, self._locate)
            ]
        )

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a number and return the sum; one that is not there is made of delta.

        Atomic.  Such a new number has no expiry.  None while Redis is away.
        """
        operations, full_key = self._locate(key)
        for _ in range(INC_ATTEMPTS):
            try:
                return int(operations.incr(full_key, delta))
            except CounterUnavailableError:
                return None
            except MissingKeyError:
                if operations.add(full_key, delta, None):
                    return delta
        return None

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract from a number; see ``inc``."""
        return self.inc(key, -delta)

    def clear(self) -> bool:
        """Delete this cache's keys, those with its prefix, everywhere.

        Without a prefix every key of the database would match: then it raises
        UnsupportedOperationError unless CLEAR_FLUSHES_DB is set.
        """
        if self._options.clear_flushes_db:
            return self._binding.coherent.flush_db()
        return self._binding.coherent.clear(self._pattern_to_clear())

    def _pattern_to_clear(self) -> KeyPattern:
        prefix = self._prefix()
        if not prefix:
            raise UnsupportedOperationError(
                "clear() would delete every key of the database: set CACHE_KEY_PREFIX, "
                "or CLEAR_FLUSHES_DB in CACHE_BRIDGE to allow it."
            )
        return pattern_of_prefix(prefix)

    # -- keys and timeouts -------------------------------------------------------------

    def _prefix(self) -> str:
        prefix = self.key_prefix
        return prefix if isinstance(prefix, str) else prefix()

    def _locate(self, key: Any) -> tuple[Guarded, str]:
        """Return the operations for a key, and its full form."""
        text = key if type(key) is str else str(key)
        full_key = self._prefix() + text
        binding = self._binding
        operations = binding.operations_for(text, full_key)
        if operations is binding.coherent and self.probe is not never:
            binding.remember(text, full_key)
        return operations, full_key

    def ttl_ms(self, timeout: int | timedelta | None) -> int | None:
        """Return a timeout as the engine takes it."""
        seconds = self._normalize_timeout(timeout)
        return None if seconds == 0 else to_milliseconds(seconds)
