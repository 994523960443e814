"""``cachebridge.Cache`` is the same as a plain dictionary with deadlines."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from cachebridge import Cache, MissingKeyError
from cachebridge.config import EngineOptions
from cachebridge.engine import registry
from cachebridge.engine.engine import Engine
from cachebridge.l2.location import parse_location
from tests.rig import FakeClock, engine_of
from tests.sides import on_side


class CacheModel(RuleBasedStateMachine):
    """A cache against a dictionary of values and deadlines, with a clock to move.

    Reads go through L1 or past it at random; both must always agree with the model.
    """

    SIDE = "threads"
    KEYS = st.sampled_from(["a", "b", "c", "rl:d"])
    VALUES = st.one_of(
        st.integers(-5, 5),
        st.sampled_from([None, True, 1.5, "text", 2**63 - 1, 2**70]),
        st.lists(st.integers(0, 3), max_size=2),
        st.dictionaries(st.sampled_from("xy"), st.lists(st.integers(0, 3), max_size=1)),
    )
    TTLS = st.sampled_from([None, 0, -1, 0.5, 3, 10, 100])

    @initialize(max_entries=st.sampled_from([0, 1, 2, 100]))
    def open(self, max_entries):
        self.clock = FakeClock()
        options = EngineOptions(l1_max_entries=max_entries, l1_ttl=20.0)
        location = parse_location("memory://model")
        self.engine = Engine(location, options, clock=self.clock)
        registry._engines[location.identity] = (self.engine, "model")
        cache = Cache("memory://model", l1_max_entries=max_entries, l1_ttl=20.0)
        self.cache = on_side(self.SIDE, cache)
        registry._engines.pop(location.identity)
        assert engine_of(self.cache) is self.engine
        self.engine.listening.start()
        self.model = {}

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.stop()

    def alive(self):
        now = self.clock()
        return {k: v for k, (v, end) in self.model.items() if now < end}

    def put(self, key, value, ttl):
        if ttl is not None and ttl <= 0:
            self.model.pop(key, None)
        else:
            end = math.inf if ttl is None else self.clock() + ttl
            self.model[key] = (value, end)

    @rule(seconds=st.sampled_from([0.1, 0.4, 2, 5, 60]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(key=KEYS)
    def get(self, key):
        value = self.cache.get(key, "absent")
        assert value == self.alive().get(key, "absent")
        assert type(value) is type(self.alive().get(key, "absent"))

    @rule(key=KEYS)
    def get_past_l1(self, key):
        with self.cache.bypass_l1():
            assert self.cache.get(key, "absent") == self.alive().get(key, "absent")

    @rule(keys=st.lists(KEYS, max_size=4))
    def get_many(self, keys):
        alive = self.alive()
        expected = {key: alive[key] for key in keys if key in alive}
        assert self.cache.get_many(keys) == expected

    @rule(key=KEYS)
    def has_key(self, key):
        assert self.cache.has_key(key) is (key in self.alive())

    @rule(key=KEYS, value=VALUES, ttl=TTLS, wait=st.booleans())
    def set(self, key, value, ttl, wait):
        self.cache.set(key, value, ttl, wait=wait)
        self.put(key, value, ttl)

    @rule(items=st.dictionaries(KEYS, VALUES, max_size=4), ttl=TTLS)
    def set_many(self, items, ttl):
        self.cache.set_many(items, ttl)
        for key, value in items.items():
            self.put(key, value, ttl)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, key, value, ttl):
        absent = key not in self.alive()
        assert self.cache.add(key, value, ttl) is absent
        if absent:
            self.put(key, value, ttl)

    @rule(key=KEYS, ttl=TTLS)
    def touch(self, key, ttl):
        there = key in self.alive()
        assert self.cache.touch(key, ttl) is there
        if there:
            self.put(key, self.model[key][0], ttl)

    @rule(key=KEYS, delta=st.sampled_from([1, -3, 0.5, 2**63]))
    def incr(self, key, delta):
        alive = self.alive()
        if key not in alive:
            with pytest.raises(MissingKeyError):
                self.cache.incr(key, delta)
        elif isinstance(alive[key], (int, float)):
            value = self.cache.incr(key, delta)
            assert value == alive[key] + delta
            self.model[key] = (value, self.model[key][1])
        else:
            with pytest.raises(TypeError):
                self.cache.incr(key, delta)

    @rule(key=KEYS)
    def delete(self, key):
        assert self.cache.delete(key) is (key in self.alive())
        self.model.pop(key, None)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete_many(self, keys):
        assert self.cache.delete_many(keys) == len(set(keys) & set(self.alive()))
        for key in keys:
            self.model.pop(key, None)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def get_or_load(self, key, value, ttl):
        alive = self.alive()
        assert self.cache.get_or_load(key, lambda: value, ttl) == alive.get(key, value)
        if key not in alive:
            self.put(key, value, ttl)

    @rule(on=st.booleans())
    def switch(self, on):
        (self.cache.l1_on if on else self.cache.l1_off)()

    @precondition(lambda self: self.model)
    @rule()
    def break_and_recovery(self):
        self.engine.rules.on_break()
        self.engine.rules.on_subscribed()
        self.engine.rules.extend_trust(math.inf)

    @rule()
    def spoil_what_was_read(self):
        for value in self.cache.get_many(["a", "b", "c", "rl:d"]).values():
            if isinstance(value, (list, dict)):
                value.clear()

    @invariant()
    def nothing_remains(self):
        if hasattr(self, "engine"):
            assert self.engine.rules.is_idle() or self.engine.write_behind
            assert self.engine.single_flight.is_idle()
            assert len(self.engine.l1) <= self.engine.options.l1_max_entries


class TaskModel(CacheModel):
    """The same, with every call made by a task."""

    SIDE = "tasks"


CacheModel.TestCase.settings = TaskModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestCacheModel = CacheModel.TestCase
TestTaskModel = TaskModel.TestCase
