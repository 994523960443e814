"""The process that carries out the writes of remote.py."""

from __future__ import annotations

import copy
import enum
import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import django
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.utils.module_loading import import_string
from inside.bus import Canary

_opened_before: list[tuple[tuple[str, str, dict[str, Any]], tuple[Any, Canary]]] = []


class Sentinel(enum.Enum):
    """Django's marker for "no timeout given", which is only equal to itself."""

    DEFAULT_TIMEOUT = enum.auto()


@dataclass(frozen=True, slots=True)
class Write:
    """One call of a writing method, with the settings of the cache it is for."""

    number: int
    backend: str
    location: str
    params: dict[str, Any]
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made_keys: dict[Any, str] | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of it."""

    result: Any
    error: BaseException | None
    warned: list[tuple[str, type[Warning]]]


def serve(connection: Any) -> None:
    """Answer one write after the other until the other side closes."""
    django.setup()
    while True:
        try:
            write = connection.recv()
        except EOFError:
            return
        connection.send(_carried_out(write))


def _carried_out(write: Write) -> Reply:
    """Do it, then let the canary tell the other process that it is done."""
    cache, canary = _opened(write)
    result, error = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = _call(cache, write)
        except Exception as exc:
            error = _sendable(exc)
    if canary.is_needed:
        canary.set(write.number)
    return Reply(
        result=result,
        error=error,
        warned=[(str(warning.message), warning.category) for warning in caught],
    )


def _opened(write: Write) -> tuple[Any, Canary]:
    """Return the one backend of this process for these settings, and its canary."""
    address = (write.backend, write.location, write.params)
    for known, opened in _opened_before:
        if known == address:
            return opened
    make = import_string(write.backend)
    cache = make(write.location, copy.deepcopy(write.params))
    opened = cache, Canary(make, write.location, write.params)
    _opened_before.append((address, opened))
    return opened


def _call(cache: Any, write: Write) -> Any:
    def received(argument: Any) -> Any:
        is_default = argument is Sentinel.DEFAULT_TIMEOUT
        return DEFAULT_TIMEOUT if is_default else argument

    configured = cache.key_func
    if write.made_keys is not None:
        made = write.made_keys
        cache.key_func = lambda key, _prefix, _version: made[key]
    try:
        return getattr(cache, write.method)(
            *map(received, write.args),
            **{name: received(value) for name, value in write.kwargs.items()},
        )
    finally:
        cache.key_func = configured


def _sendable(exc: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(exc))
    except Exception:
        return RuntimeError(repr(exc))
    return exc
