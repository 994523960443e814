"""Which entries of CACHES are ours, their caches, and texts about them without secrets.

The only place here that looks into a cache of the Django adapter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from cachebridge.django_backend import CacheBridge
from cachebridge.l2.location import hide_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.engine.binding import Binding

_UNUSABLE: Final = (ImproperlyConfigured, ImportError, TypeError, ValueError)
"""What making a cache raises for an entry that is wrong."""

_OWN_PATH: Final = "cachebridge."
_SECRET_NAME: Final = re.compile("password|secret|signing|token", re.IGNORECASE)
_PASSWORD_IN_QUERY: Final = re.compile(r"[?&](?:ssl_)?password=([^&]*)")


class UnusableAliasError(Exception):
    """An alias cannot be made; the text says why, without secrets."""


def bridge_names() -> list[str]:
    """Return the aliases whose backend is CacheBridge, or a subclass, or misspelt."""
    return [name for name, entry in settings.CACHES.items() if _is_bridge(entry)]


def _is_bridge(entry: Mapping[str, Any]) -> bool:
    path = str(entry.get("BACKEND", ""))
    try:
        backend = import_string(path)
    except ImportError:
        return path.startswith(_OWN_PATH)
    return isinstance(backend, type) and issubclass(backend, CacheBridge)


def bridge(name: str) -> CacheBridge:
    """Return the cache of an alias of ours, without asking its server anything.

    Raises UnusableAliasError if its entry of CACHES is wrong.
    """
    try:
        cache = caches[name]
    except _UNUSABLE as exc:
        text = str(exc).removeprefix(f"CACHES[{name!r}]: ")
        raise UnusableAliasError(conceal(text, name)) from exc
    if not isinstance(cache, CacheBridge):
        raise UnusableAliasError(f"it is a {type(cache).__name__}, not a CacheBridge.")
    return cache


def usable_bridges() -> dict[str, CacheBridge]:
    """Return the caches of those aliases of ours that can be made."""
    usable = {}
    for name in bridge_names():
        with suppress(UnusableAliasError):
            usable[name] = bridge(name)
    return usable


def binding_of(cache: CacheBridge) -> Binding:
    """Return what the cache is bound to: its options, and its server's engine."""
    return cache._binding  # noqa: SLF001 one family; it is no public name


def name_of(cache: object) -> str | None:
    """Return the alias of a cache or of Django's proxy for one; None if not ours."""
    with suppress(*_UNUSABLE):
        binding = getattr(cache, "_binding", None)
        for name, ours in usable_bridges().items():
            if binding_of(ours) is binding:
                return name
    return None


def may_enter_l1(cache: CacheBridge, prefix: str) -> bool:
    """Tell whether L1 may hold keys that begin with ``prefix``."""
    binding = binding_of(cache)
    has_l1 = binding.engine.options.l1_max_entries > 0
    return has_l1 and not prefix.startswith(binding.options.l1_exclude)


def conceal(text: str, name: str) -> str:
    """Return ``text`` without the secrets that the alias's entry of CACHES holds."""
    entry = settings.CACHES.get(name, {})
    # A password that is also a word of the address, "redis" say, would show by its gap.
    public = hide_password(str(entry.get("LOCATION", "")))
    found = {secret for secret in _secrets(entry) if secret not in public}
    for secret in sorted(found, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(value: object, name: str = "") -> Iterator[str]:
    """Find passwords and the like, in URLs also as they are before decoding."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(inner, str(key))
    elif isinstance(value, str):
        found = [value] if _SECRET_NAME.search(name) else _passwords_in_url(value)
        for secret in filter(None, found):
            yield from {secret, unquote(secret)}
    elif isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        for inner in value:
            yield from _secrets(inner, name)


def _passwords_in_url(text: str) -> list[str]:
    _, scheme, rest = text.partition("://")
    if not scheme:
        return []
    user_and_password = rest.rpartition("@")[0]
    return [user_and_password.partition(":")[2], *_PASSWORD_IN_QUERY.findall(rest)]
