"""Django's cache backend: translate, call the engine, translate back.

No caching rule lives here.  Return values, warnings and the meaning of timeouts are
Django's own; where its backends differ, those of LocMemCache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.cache.backends.base import (
    DEFAULT_TIMEOUT,
    BaseCache,
    default_key_func,
    memcache_key_warnings,
)
from django.utils.safestring import SafeString

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import pattern_of
from cachebridge.core.ttl import to_milliseconds
from cachebridge.django_backend.aio import AsyncMethods, in_order
from cachebridge.django_backend.bindings import binding_for
from cachebridge.engine.operating import Operated
from cachebridge.errors import UnsupportedOperationError
from cachebridge.l1.copies import register_immutable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.guarded import Guarded

register_immutable(SafeString)

_CLEAN_KEY_LENGTH: Final = 250
_make_key: Final = BaseCache.make_key
_validate_key: Final = BaseCache.validate_key


def _key_setting(name: str) -> Any:
    """Make an attribute that keys depend on: changing it ends the use of the probe."""
    kept_as = f"_{name}"

    def read(self: CacheBridge) -> Any:
        return getattr(self, kept_as)

    def change(self: CacheBridge, value: Any) -> None:
        setattr(self, kept_as, value)
        self._probe = _never

    def forget(self: CacheBridge) -> None:
        delattr(self, kept_as)

    return property(read, change, forget)


def _key_method(name: str) -> Any:
    """Make a method of BaseCache that one may replace on a single object, as tests do.

    From then on the object asks the replacement for every key.
    """
    original = getattr(BaseCache, name)

    def read(self: CacheBridge) -> Any:
        own = self.__dict__.get(name)
        return original.__get__(self) if own is None else own

    def change(self: CacheBridge, value: Any) -> None:
        self.__dict__.update({name: value}, _probe=_never, _has_plain_methods=False)

    def forget(self: CacheBridge) -> None:
        del self.__dict__[name]

    return property(read, change, forget)


def _never(_key: str) -> Any:
    return MISSING


class CacheBridge(Operated, AsyncMethods, BaseCache):  # type: ignore[misc] # clear's
    """The two-level cache behind Django's cache API.

    Thread safe; Django makes one object per thread or request, all of which share
    memory, connections and listener.  Besides Django's own methods it has
    ``get_or_load``, ``stats``, ``health``, ``bypass_l1``, ``l1_off`` and ``l1_on``.
    While the shared store is away every method gives the answer of
    ``docs/outages.md``, or raises ``L2Error`` with ``ON_ERROR="raise"``.
    """

    version = _key_setting("version")
    key_prefix = _key_setting("key_prefix")
    key_func = _key_setting("key_func")
    make_key = _key_method("make_key")
    validate_key = _key_method("validate_key")
    make_and_validate_key = _key_method("make_and_validate_key")

    def __init__(self, server: object, params: dict[str, Any]) -> None:
        super().__init__(params)
        binding = binding_for(server, params)
        self._binding = binding
        self._has_plain_methods = self._inherits_key_methods()
        self._probe: Callable[[str], Any] = _never
        if self._has_plain_methods and self.key_func is default_key_func:
            self._probe = binding.probe
        if not binding.is_clearable:
            binding.can_be_cleared_by(self._pattern())
        binding.engine.welcome(self)

    @classmethod
    def _inherits_key_methods(cls) -> bool:
        """Tell whether no subclass has its own say about keys."""
        return (
            cls.make_key is CacheBridge.make_key
            and cls.validate_key is CacheBridge.validate_key
            and cls.make_and_validate_key is CacheBridge.make_and_validate_key
        )

    # -- reading -----------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of ``key``, ``default`` if there is none."""
        if version is None and type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key, version)
        value = operations.get(full_key)
        return default if value is MISSING else value

    def get_many(
        self, keys: Iterable[Any], version: int | None = None
    ) -> dict[Any, Any]:
        """Return the values that exist, by key; one round trip for what L1 lacks.

        In the order asked for.  Two keys may have one full key (1 and "1"): both are in
        the answer.
        """
        wanted = list(keys)
        found, missed = self._probe_many(wanted, version)
        if not missed:
            return found
        full_keys, names = self._locate_many(missed, version)
        values: dict[str, Any] = {}
        for operations, group in names.items():
            values.update(operations.get_many(group))
        for key, full_key in zip(missed, full_keys, strict=True):
            if full_key in values:
                found[key] = values[full_key]
        return in_order(found, wanted, missed)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Tell whether the key exists."""
        operations, full_key = self._locate(key, version)
        return operations.has_key(full_key)

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """Return the value, or store ``default``, called if callable.

        The callable runs once however many threads and processes ask.
        """
        if version is None and type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        loader = default if callable(default) else lambda: default
        return self.get_or_load(key, loader, timeout, version)

    def get_or_load(  # noqa: PLR0917 keyword-only ones cost a hit 8 ns each
        self,
        key: Any,
        loader: Callable[[], Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> Any:
        """Return the value, or load and store it if there is none.

        A loader that returns ``cachebridge.ABSENT`` says "no such thing": callers get
        ``default``, for ``negative_ttl`` seconds without asking again.  ``lease_ttl``,
        ``stale_ttl``, ``stale_if_error``, ``negative_ttl`` (seconds) and
        ``early_refresh`` override the cache's options for this call.
        """
        if version is None and type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key, version)
        terms = self._binding.terms_with(
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )
        ttl_ms = self._ttl_ms(timeout)
        value = operations.get_or_load(full_key, loader, ttl_ms, terms)
        return default if value is ABSENT else value

    # -- writing -----------------------------------------------------------------------

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Set the value if the key does not exist; tell whether it did not."""
        operations, full_key = self._locate(key, version)
        return operations.add(full_key, value, self._ttl_ms(timeout))

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """Set the value; a timeout of 0 or less deletes the key."""
        operations, full_key = self._locate(key, version)
        operations.set(full_key, value, self._ttl_ms(timeout))

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Set all values in one round trip; return the keys that failed.

        These are all while the shared store is away, and else none.
        """
        ttl_ms = self._ttl_ms(timeout)
        failed: list[Any] = []
        for operations, names in self._group(data, version):
            refused = operations.set_many(
                {full_key: data[key] for full_key, key in names.items()}, ttl_ms
            )
            failed += [names[full_key] for full_key in refused]
        return failed

    def touch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Give the key a new timeout; tell whether it exists."""
        operations, full_key = self._locate(key, version)
        return operations.touch(full_key, self._ttl_ms(timeout))

    def incr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """Add to a number, atomically; ValueError if there is no such key.

        Also while the shared store is away: CounterUnavailableError.
        """
        operations, full_key = self._locate(key, version)
        return operations.incr(full_key, delta)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Delete the key; tell whether it existed."""
        operations, full_key = self._locate(key, version)
        return operations.delete(full_key)

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete all keys in one round trip."""
        for operations, names in self._group(keys, version):
            operations.delete_many(names)

    def clear(self) -> bool | None:  # type: ignore[override]
        """Delete this cache's keys, all versions, from L2 and every process's L1.

        False if the shared store is away: then it will be cleared when it is back.
        Raises UnsupportedOperationError if KEY_FUNCTION hides the key, unless
        CLEAR_FLUSHES_DB is set.
        """
        binding = self._binding
        if binding.options.clear_flushes_db:
            return None if binding.coherent.flush_db() else False
        return None if binding.coherent.clear(self._sure_pattern()) else False

    def _sure_pattern(self) -> KeyPattern:
        pattern = self._pattern()
        if pattern is None:
            raise UnsupportedOperationError(
                "clear() cannot find this cache's keys: its KEY_FUNCTION returns keys "
                "without the given key, or with nothing else, or, for memcached://, "
                "that do not begin with KEY_PREFIX. Set the option CLEAR_FLUSHES_DB to "
                "let clear() delete the whole database."
            )
        return pattern

    def _pattern(self) -> KeyPattern | None:
        pattern = pattern_of(
            lambda key, version: self.key_func(key, self.key_prefix, version)
        )
        if pattern is None or not self._binding.engine.stores.can_find(pattern):
            return None
        return pattern

    # -- keys and timeouts -------------------------------------------------------

    def _locate(self, key: Any, version: int | None) -> tuple[Guarded, str]:
        """Return the operations for a key, and its full form; warns as Django does."""
        binding = self._binding
        memorable = version is None and type(key) is str and self._probe is not _never
        if memorable and (known := binding.known_full_key(key)) is not None:
            return binding.coherent, known
        if not self._has_plain_methods:
            full_key = str(self.make_and_validate_key(key, version))
            return binding.operations_for(str(key), full_key), full_key
        full_key = str(_make_key(self, key, version))
        clean = _is_surely_clean(full_key)
        if not clean:
            _validate_key(self, full_key)
        operations = binding.operations_for(str(key), full_key)
        if (
            memorable
            and operations is binding.coherent
            and (clean or next(memcache_key_warnings(full_key), None) is None)
        ):
            binding.remember(key, full_key)
        return operations, full_key

    def _probe_many(
        self, keys: list[Any], version: int | None
    ) -> tuple[dict[Any, Any], list[Any]]:
        """Return what L1 has, and the keys that it lacks."""
        if version is None and self._probe is not _never:
            return self._binding.probe_many(keys)
        return {}, keys

    def _locate_many(
        self, keys: list[Any], version: int | None
    ) -> tuple[list[str], dict[Guarded, list[str]]]:
        """Return all full keys, and the same by their operations."""
        full_keys: list[str] = []
        names: dict[Guarded, list[str]] = {}
        for key in keys:
            operations, full_key = self._locate(key, version)
            names.setdefault(operations, []).append(full_key)
            full_keys.append(full_key)
        return full_keys, names

    def _group(
        self, keys: Iterable[Any], version: int | None
    ) -> list[tuple[Guarded, dict[str, Any]]]:
        """Sort keys by their operations: mostly all are in one group."""
        return self._binding.group(keys, lambda key: self._locate(key, version))

    def _ttl_ms(self, timeout: Any) -> int | None:
        return to_milliseconds(
            self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        )


def _is_surely_clean(full_key: str) -> bool:
    """Tell quickly that Django has nothing to warn about; False means: ask it."""
    return (
        full_key.isascii()
        and full_key.isprintable()
        and " " not in full_key
        and len(full_key) <= _CLEAN_KEY_LENGTH
    )
