"""Hot keys are found from the notes of hits; the hits come between two looks here."""

from __future__ import annotations

import random

import pytest

from cachebridge.engine.watching.hot_keys import LASTS_S, hot_keys
from tests.rig import FakeClock, entry_of, make_rules


class Site:
    """A process whose callers hit while the sampler sleeps."""

    def __init__(self, eviction, rates):
        self.clock = FakeClock()
        self.rules, self.l1, self.counters = make_rules(self.clock, eviction=eviction)
        self.rates = rates
        self.chance = random.Random(7)
        for key in rates:
            self.l1.put(key, entry_of(key))

    def sleep(self, seconds):
        self.clock.advance(seconds)
        for key, per_s in self.rates.items():
            for _ in range(int(per_s * seconds + self.chance.random())):
                self.l1.note(key)
                self.counters.l1_hits += 1


@pytest.mark.parametrize("eviction", ["s3fifo", "lru"])
def test_the_hottest_first(eviction):
    """They come in the order of their hits, with estimates of them."""
    rates = {f"cold{n}": 2 for n in range(50)} | {"warm": 60, "hot": 400}
    site = Site(eviction, rates)
    found = hot_keys(site, 2, site.sleep)
    assert found["sampled"]
    assert [each["key"] for each in found["keys"]] == ["hot", "warm"]
    hot, warm = found["keys"]
    assert hot["share"] > warm["share"]
    assert 100 < hot["hits_per_s"] <= found["hits_per_s"]
    assert 20 < warm["hits_per_s"] < 200
    assert 400 < found["hits_per_s"] < 800


def test_it_takes_no_marks():
    """What was hit keeps its place in L1, whichever peer asks."""
    site = Site("s3fifo", {"hot": 1000})
    hot_keys(site, 1, site.sleep)
    for number in range(300):
        site.l1.put(f"scan{number}", entry_of(number))
    assert site.l1.look("hot") is not None


def test_without_hits():
    """Nothing is found, and it does not take longer."""
    site = Site("s3fifo", {})
    began = site.clock()
    assert hot_keys(site, 5, site.sleep)["keys"] == []
    assert site.clock() - began < 2 * LASTS_S


def test_fifo_notes_no_hits():
    """The answer says so at once."""
    site = Site("fifo", {"hot": 1000})
    found = hot_keys(site, 5, site.sleep)
    assert (found["sampled"], found["keys"]) == (False, [])
    assert site.clock() == Site("fifo", {}).clock()
