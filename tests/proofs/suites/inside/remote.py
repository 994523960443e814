"""A cache whose writes happen in another process, and whose reads happen in this one.

The tests see one cache. Each write of theirs is carried out by a process of its own
(writer.py) with a backend of the same settings; this process's backend only reads, so
every answer of a read is one that an invalidation had to make right.
"""

from __future__ import annotations

import atexit
import copy
import itertools
import multiprocessing
import threading
import warnings
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, CacheKeyWarning
from django.utils.module_loading import import_string
from inside import bus
from inside.plan import current
from inside.writer import Reply, Sentinel, Write, serve

# The methods that change something without asking this process first.
WRITES = (
    *("add", "set", "set_many", "touch", "incr", "decr"),
    *("delete", "delete_many", "clear", "incr_version", "decr_version"),
)
ANSWER_TIMEOUT_S = 30.0

Real: type[BaseCache] = import_string(current().backend)


class Writer:
    """The other process, started with the first write and ended with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None

    def __call__(self, write: Write) -> Reply:
        """Have a write carried out; one at a time."""
        with self._lock:
            if self._connection is None:
                self._start()
            self._connection.send(write)
            if not self._connection.poll(ANSWER_TIMEOUT_S):
                raise TimeoutError(f"no answer from the writing process to {write}")
            return self._connection.recv()

    def _start(self) -> None:
        # Spawned, not forked: it must not inherit an engine, only the settings.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        atexit.register(self._connection.close)


write_elsewhere = Writer()
numbers = itertools.count(1)


class RemoteWrites(Real):
    """The backend under test, reading here and writing there."""

    real = current().backend

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        # Backends may take their options out of the dictionary they are given.
        self._address = (location, copy.deepcopy(params))
        super().__init__(location, params)
        self._configured_key_func = self.key_func
        self._canary = bus.Canary(Real, location, self._address[1])

    def _forward(self, name: str, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Have the writing process do it, and return when we have heard of it."""
        args = tuple(_sendable(argument) for argument in args)
        if self._canary.is_needed:
            self._canary.hold(lambda: self._written("get", ("",), {}))
        number, reply = self._written(name, args, kwargs)
        if self._canary.is_needed:
            self._canary.expect(number)
            self._canary.apart(lambda: self._take_into_l1(args, kwargs))
        for message, category in reply.warned:
            warnings.warn(message, category, stacklevel=3)
        if reply.error is not None:
            raise reply.error
        return reply.result

    def _take_into_l1(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Read what was written, for the test's reads and the next write to meet."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheKeyWarning)
            for key in _keys(args):
                Real.get(self, key, version=kwargs.get("version"))

    def _written(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, Reply]:
        location, params = self._address
        write = Write(
            number=next(numbers),
            backend=self.real,
            location=location,
            params=params,
            method=name,
            args=args,
            kwargs={key: _sendable(value) for key, value in kwargs.items()},
            made_keys=self._made_keys(args, kwargs),
        )
        return write.number, write_elsewhere(write)

    def _made_keys(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[Any, str] | None:
        """Return the final keys where a test put another key function on this object.

        Such a function is local to the test and cannot be sent.
        """
        if self.key_func is self._configured_key_func:
            return None
        version = kwargs.get("version", self.version)
        return {
            key: self.key_func(key, self.key_prefix, version) for key in _keys(args)
        }

    # Reads here, computes here, adds there.
    get_or_set = BaseCache.get_or_set
    aget_or_set = BaseCache.aget_or_set


def _keys(args: tuple[Any, ...]) -> list[Any]:
    """Return the keys that a call is about."""
    if not args:
        return []
    return list(args[0]) if isinstance(args[0], (list, dict)) else [args[0]]


def _sendable(argument: Any) -> Any:
    """Return an argument in a form that crosses processes, iterators as lists."""
    if argument is DEFAULT_TIMEOUT:
        return Sentinel.DEFAULT_TIMEOUT
    return list(argument) if hasattr(argument, "__next__") else argument


def _forwarded(name: str) -> Any:
    def method(self: RemoteWrites, *args: Any, **kwargs: Any) -> Any:
        return self._forward(name, args, kwargs)

    method.__name__ = name
    return method


for _name in WRITES:
    setattr(RemoteWrites, _name, _forwarded(_name))
    # Django's own asynchronous forms call the synchronous ones above.
    setattr(RemoteWrites, f"a{_name}", getattr(BaseCache, f"a{_name}"))
