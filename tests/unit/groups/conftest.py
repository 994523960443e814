"""Caches on every kind of store for the tests of groups."""

from __future__ import annotations

import pytest

from tests.rig import PATIENT, listening, lone_cache
from tests.stores import REDIS, WITH_BUS, make_place

STORES = [REDIS, "memory", WITH_BUS]


@pytest.fixture(params=STORES)
def cache(request):
    """Return a cache on each kind of store, listening."""
    if request.param == "memory":
        return listening(lone_cache("memory://", negative_ttl=60, lease_ttl=60))
    url = request.getfixturevalue("redis_url")
    place = make_place(request, request.param, url)
    options = {**PATIENT, **place.options, "negative_ttl": 60, "lease_ttl": 60}
    return listening(lone_cache(place.location, key_prefix="groups:", **options))


@pytest.fixture
def memory():
    """Return a cache in memory, for what no store is needed for."""
    return listening(lone_cache("memory://"))


class Products:
    """What groups load here: it notes what it is asked for, batch by batch."""

    def __init__(self, absent=()):
        self.asked = []
        self.absent = set(absent)

    def load(self, number):
        self.asked.append([number])
        return {"number": number}

    def load_many(self, numbers):
        self.asked.append(list(numbers))
        return {each: {"number": each} for each in numbers if each not in self.absent}

    @property
    def each(self):
        """What was loaded, sorted: twice if it was loaded twice."""
        return sorted(each for batch in self.asked for each in batch)


@pytest.fixture
def products():
    return Products()
