"""Engines that belong to one cache alone, and stores of the memory that are bounded."""

from __future__ import annotations

import gc
import weakref

from cachebridge.config import CacheOptions, EngineOptions
from cachebridge.engine.binding import Binding
from cachebridge.engine.registry import _engines, engine_apart
from tests.rig import Plain


def test_an_engine_apart_goes_with_its_owner():
    """No other caller finds it, and nothing keeps it."""
    known = dict(_engines)
    engine = engine_apart("memory://", EngineOptions())
    engine.listening.start()
    assert _engines == known
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None


def test_a_bounded_store_keeps_the_latest():
    """Every write of a key makes it the latest."""
    engine = engine_apart("memory://", EngineOptions(l1_max_entries=0))
    engine.memory_server.max_entries = 3
    cache = Plain(Binding(engine, CacheOptions()).coherent.for_threads)
    for key in ("a", "b", "c", "a", "d"):
        cache.set(key, key, None)
    assert cache.get_many(["a", "b", "c", "d"]) == {"a": "a", "c": "c", "d": "d"}


def test_keys_are_grouped_by_their_operations():
    """One group as a rule; excluded keys are another, and no group is empty."""
    engine = engine_apart("memory://", EngineOptions())
    binding = Binding(engine, CacheOptions(l1_exclude=("out:",)))

    def locate(key):
        return binding.operations_for(key, f"p:{key}"), f"p:{key}"

    assert binding.group([], locate) == []
    assert binding.group(["a", "b"], locate) == [
        (binding.coherent, {"p:a": "a", "p:b": "b"})
    ]
    assert binding.group(["out:1", "a"], locate) == [
        (binding.coherent, {"p:a": "a"}),
        (binding.direct, {"p:out:1": "out:1"}),
    ]
