"""A thread's call runs through coroutines: no frame is missing where one looks."""

from __future__ import annotations

import itertools
import sys
import threading
import traceback

import pytest

from cachebridge import Cache
from cachebridge.django_backend import CacheBridge
from tests.rig import PATIENCE_S, eventually

_numbers = itertools.count()


@pytest.fixture(params=["plain", "django"])
def cache(request):
    location = f"memory://stacks-{next(_numbers)}"
    if request.param == "plain":
        return Cache(location, key_prefix="p:")
    return CacheBridge(location, {})


def names_of(frames):
    return [frame.name for frame in frames]


def is_within(part, whole):
    """Return whether ``whole`` has the names of ``part``, in this order."""
    rest = iter(whole)
    return all(name in rest for name in part)


def test_the_traceback_of_a_loader(cache):
    """It shows the caller, the method, and all that lies between it and the loader."""

    def broken():
        raise LookupError("broken")

    with pytest.raises(LookupError) as raised:
        cache.get_or_load("k", broken)
    names = names_of(traceback.extract_tb(raised.tb))
    way = ["test_the_traceback_of_a_loader", "get_or_load", "go_on"]
    assert is_within([*way, "get_or_load", "broken"], names)


def test_the_traceback_of_a_value(cache):
    """What cannot be serialized is traced from the method down to the codec."""

    class Broken:
        def __reduce__(self):
            raise LookupError("broken")

    for write in (cache.set, cache.add):
        with pytest.raises(LookupError) as raised:
            write("k", Broken())
        names = names_of(traceback.extract_tb(raised.tb))
        assert is_within([write.__name__, "run", "encode", "__reduce__"], names)
    with pytest.raises(LookupError) as raised:
        cache.set_many({"k": Broken()})
    names = names_of(traceback.extract_tb(raised.tb))
    assert is_within(["set_many", "run", "set_many", "encode"], names)


def test_the_stack_of_a_caller_that_waits(cache):
    """Another thread's dump of a blocked caller shows where it is blocked.

    A loader stands right below the method: the load's own frames are off the stack.
    """
    go_on, stacks = threading.Event(), []

    def load():
        assert go_on.wait(PATIENCE_S)
        return "v"

    def follow():
        cache.get_or_load("k", load)

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()

    def both_are_shown():
        frames = sys._current_frames()
        stacks[:] = [
            names_of(traceback.extract_stack(frames[thread.ident]))
            for thread in threads
        ]
        way = ["follow", "get_or_load"]
        loads = [is_within([*way, "load", "wait"], names) for names in stacks]
        follows = [
            is_within([*way, "go_on", "get_or_load", "wait"], names) for names in stacks
        ]
        return sorted(zip(loads, follows, strict=True)) == [
            (False, True),
            (True, False),
        ]

    try:
        eventually(both_are_shown)
    finally:
        go_on.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("error", [StopIteration, KeyboardInterrupt, GeneratorExit])
def test_any_exception_passes(cache, error):
    """Also those that mean something to a coroutine."""

    def load():
        raise error("of the loader")

    with pytest.raises(error, match="of the loader"):
        cache.get_or_load("k", load)


@pytest.mark.parametrize("method", ["set", "add", "set_many", "get_or_load"])
def test_a_value_that_stops_an_iteration(cache, method):
    """What it raises while it is written reaches the caller as it is."""

    class Stopping:
        def __reduce__(self):
            raise StopIteration("of the value")

    arguments = {"set_many": ({"k": Stopping()},), "get_or_load": ("k", Stopping)}
    with pytest.raises(StopIteration, match="of the value"):
        getattr(cache, method)(*arguments.get(method, ("k", Stopping())))
