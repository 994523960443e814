"""When a replica may be read from: it has all that the primary has said."""

from __future__ import annotations

import pytest

from cachebridge.config import EngineOptions
from cachebridge.core.outage import NEVER
from cachebridge.errors import ConfigError
from cachebridge.l2.redis import near
from cachebridge.l2.redis.near import Marks
from cachebridge.l2.resolving import resolve
from tests.rig import FakeClock

URLS = ["redis://a:1/2", "redis://b:1/2", "redis://c:1/2"]


class Proof:
    at = NEVER

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return FakeClock(100.0)


@pytest.fixture
def proof():
    return Proof()


@pytest.fixture
def marks(clock, proof):
    return Marks(clock, proof)


def test_nothing_is_read_before_a_proof(marks, proof):
    """Then all that the primary has not been asked for may be read."""
    assert not marks.allow((b"k",))
    proof.at = 90.0
    assert marks.allow((b"k", b"l"))


def test_a_name_waits_for_a_later_heartbeat(marks, proof, clock):
    """One that was sent before the answer proves nothing of it."""
    proof.at = 99.0
    marks.set((b"k",))
    assert not marks.allow((b"l", b"k"))
    assert marks.allow((b"l",))
    proof.at = 100.0
    assert not marks.allow((b"k",))
    proof.at = 100.1
    assert marks.allow((b"k",))
    clock.advance(1)
    marks.set((b"k",))
    assert not marks.allow((b"k",))


def test_a_request_without_names_is_about_all(marks, proof, clock):
    """FLUSHDB, or the step of a SCAN."""
    proof.at = 99.0
    marks.set(())
    assert not marks.allow((b"k",))
    clock.advance(1)
    proof.at = 100.5
    assert marks.allow((b"k",))


def test_many_names_count_as_all(marks, proof, clock, monkeypatch):
    """The memory is bounded, and never too short."""
    monkeypatch.setattr(near, "MOST_MARKS", 10)
    proof.at = 99.0
    for number in range(12):
        marks.set((b"%d" % number,))
    assert len(marks._asked) < 10
    assert not marks.allow((b"0",))
    assert not marks.allow((b"other",))
    clock.advance(1)
    proof.at = 100.5
    assert marks.allow((b"0", b"11", b"other"))


def test_old_names_are_forgotten_one_by_one(marks, proof, clock, monkeypatch):
    """Those that a heartbeat has covered need no memory."""
    monkeypatch.setattr(near, "MOST_MARKS", 10)
    for number in range(11):
        marks.set((b"%d" % number,))
    clock.advance(1)
    proof.at = 100.5
    marks.set((b"new",))
    assert list(marks._asked) == [b"new"]
    assert marks.allow((b"0",))
    assert not marks.allow((b"new",))


@pytest.mark.parametrize("location", [URLS, tuple(URLS), ",".join(URLS)])
def test_a_list_is_the_primary_and_its_replicas(location):
    """As Django's documentation has it; a text with commas is one, too."""
    parsed, options = resolve(location, EngineOptions(replicas="near"))
    assert parsed.label == URLS[0]
    assert [each.label for each in parsed.replicas] == URLS[1:]
    assert options.replicas == "near"
    alone, _ = resolve(URLS[0], EngineOptions())
    assert parsed.identity != alone.identity
    with pytest.raises(ConfigError, match="REPLICAS='near'"):
        resolve(list(URLS), EngineOptions())


@pytest.mark.parametrize(
    ("location", "options", "said"),
    [
        (URLS[0], {}, "lists the URL of the primary"),
        (URLS[:1], {}, "lists the URL of the primary"),
        (["memory://", *URLS], {}, "one primary and its replicas"),
        ([URLS[0], "memcached://a"], {}, "one primary and its replicas"),
        ([URLS[0], "redis+cluster://a"], {}, "one primary and its replicas"),
        (["redis+sentinel://a/name/2", *URLS], {}, "one primary and its replicas"),
        ([URLS[0], "redis://b:1/3"], {}, "the primary's database, 2"),
        (URLS, {"bus": "none"}, "leave BUS and BUS_LOCATION out"),
        (URLS, {"bus_location": "redis://a"}, "leave BUS and BUS_LOCATION out"),
    ],
)
def test_what_cannot_be(location, options, said):
    """The error names the way out."""
    with pytest.raises(ConfigError, match=said):
        resolve(location, EngineOptions(replicas="near", **options))
