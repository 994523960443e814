"""From the caller's key and timeout to the engine's: full keys and operations.

Django lets one replace nearly everything that keys depend on, on a class or on a single
object.  Where nothing is replaced, full keys are remembered, so that L1 can be asked by
the caller's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.cache.backends.base import (
    DEFAULT_TIMEOUT,
    BaseCache,
    default_key_func,
    memcache_key_warnings,
)

from cachebridge.config import DEFAULT_EXCLUDE
from cachebridge.core.keys import pattern_of
from cachebridge.core.ttl import to_milliseconds
from cachebridge.django_backend.transactions import TransactionMethods
from cachebridge.engine.holding.blocks import view_of
from cachebridge.groups.entries import Place
from cachebridge.groups.methods import MemoizeMethods
from cachebridge.l1.local_get import find_nothing
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.binding import Binding
    from cachebridge.engine.kinds.key_operations import KeyOperations
    from cachebridge.engine.tagging.running import LoadTags
    from cachebridge.waiting.io import IO

NO_PATTERN: Final = (
    "clear() cannot find this cache's keys: its KEY_FUNCTION returns keys without the "
    "given key, or with nothing else, or, for memcached://, that do not begin with "
    "KEY_PREFIX. Set the option CLEAR_FLUSHES_DB to let clear() delete the whole "
    "database."
)
_CLEAN_KEY_LENGTH: Final = 250
_make_key: Final = BaseCache.make_key
_validate_key: Final = BaseCache.validate_key


def _key_setting(name: str) -> Any:
    """Make an attribute that keys depend on: changing it ends the use of local gets."""
    kept_as = f"_{name}"

    def read(self: KeyedCache) -> Any:
        return getattr(self, kept_as)

    def change(self: KeyedCache, value: Any) -> None:
        setattr(self, kept_as, value)
        self._local_get = find_nothing

    def forget(self: KeyedCache) -> None:
        delattr(self, kept_as)

    return property(read, change, forget)


def _key_method(name: str) -> Any:
    """Make a method of BaseCache that tests may replace on a single object.

    After that the object calls the replacement for every key.
    """
    original = getattr(BaseCache, name)

    def read(self: KeyedCache) -> Any:
        own = self.__dict__.get(name)
        return original.__get__(self) if own is None else own

    def change(self: KeyedCache, value: Any) -> None:
        self.__dict__.update(
            {name: value}, _local_get=find_nothing, _has_plain_methods=False
        )

    def forget(self: KeyedCache) -> None:
        del self.__dict__[name]

    return property(read, change, forget)


class KeyedCache(MemoizeMethods, TransactionMethods, BaseCache):
    """Django's base class, keys and timeouts mapped for a binding.  Thread safe."""

    version = _key_setting("version")
    key_prefix = _key_setting("key_prefix")
    key_func = _key_setting("key_func")
    make_key = _key_method("make_key")
    validate_key = _key_method("validate_key")
    make_and_validate_key = _key_method("make_and_validate_key")

    def __init__(self, params: dict[str, Any], binding: Binding) -> None:
        super().__init__(params)
        self._binding = binding
        self._has_plain_methods = self._inherits_key_methods()
        self._local_get: Callable[[str], Any] = find_nothing
        if self._has_plain_methods and self.key_func is default_key_func:
            self._local_get = binding.local_get
            binding.makes_keys_by(_make_key(self, "", None))
        if not binding.is_clearable:
            binding.can_be_cleared_by(self._pattern())

    @classmethod
    def _inherits_key_methods(cls) -> bool:
        """Return whether no subclass replaces a method that makes or checks keys."""
        return (
            cls.make_key is KeyedCache.make_key
            and cls.validate_key is KeyedCache.validate_key
            and cls.make_and_validate_key is KeyedCache.make_and_validate_key
        )

    def _locate(self, key: Any, version: int | None) -> tuple[KeyOperations, str]:
        """Return the operations for a key, and its full form; warn as Django does."""
        operations, full_key = self._find(key, version)
        held = self._binding.held
        if not held.in_use or str(key).startswith(DEFAULT_EXCLUDE):
            return operations, full_key  # mostly; a session is no copy of anything
        view = view_of(held, full_key)
        return operations if view is None else operations.seen_by(view), full_key

    def _find(self, key: Any, version: int | None) -> tuple[KeyOperations, str]:
        """Return the same, as seen outside of transactions."""
        binding = self._binding
        memorable = (
            version is None and type(key) is str and self._local_get is not find_nothing
        )
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

    def _full_key_of(self, key: str) -> str:
        return self._locate(key, None)[1]

    def _local_get_many(
        self, keys: list[Any], version: int | None
    ) -> tuple[dict[Any, Any], list[Any]]:
        """Return what L1 has, and the keys that it lacks."""
        if version is None and self._local_get is not find_nothing:
            return self._binding.local_get_many(keys)
        return {}, keys

    def _locator(self, version: int | None) -> Callable[[Any], tuple[Any, str]]:
        """Return ``_locate`` for keys of one version."""
        return lambda key: self._locate(key, version)

    def _find_locally(self, key: str) -> Any:
        return self._local_get(key)

    def _place(self) -> Place:
        default_ttl_ms = self._ttl_ms(DEFAULT_TIMEOUT)
        return Place(self._binding, self._locator(None), default_ttl_ms)

    def new_tags(self, io: IO) -> LoadTags:
        """Return the tags of a value that is about to be computed; for our own apps."""
        return self._binding.coherent.on(io).new_tags()

    def set_computed(self, key: Any, value: Any, timeout: Any, tags: LoadTags) -> None:
        """Set a value, unless one of its tags was invalidated while it was computed."""
        operations, full_key = self._locate(key, None)
        ttl_ms = self._ttl_ms(timeout)
        run(operations.for_threads.set(full_key, value, ttl_ms, tags=tags))

    def _groups_of(self) -> object:
        return self._binding

    def _pattern(self) -> KeyPattern | None:
        """Return what matches all keys; None if nothing can."""
        pattern = pattern_of(
            lambda key, version: self.key_func(key, self.key_prefix, version)
        )
        if pattern is None or not self._binding.engine.stores.can_find(pattern):
            return None
        return pattern

    def _ttl_ms(self, timeout: Any) -> int | None:
        return to_milliseconds(
            self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        )


def _is_surely_clean(full_key: str) -> bool:
    """Return True, quickly, if Django would not warn; False means: ask it."""
    return (
        full_key.isascii()
        and full_key.isprintable()
        and " " not in full_key
        and len(full_key) <= _CLEAN_KEY_LENGTH
    )
