"""``doctor``: twenty checks, and each can have a finding."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import redis

from cachebridge.commands import main
from cachebridge.commands.doctor import BAD, CHECKS, OK, UNKNOWN, Patient
from cachebridge.commands.facts import BufferLimit, Facts
from tests.rig import PATIENCE_S, engine_of, listening, lone_cache

BY_CLOCK = {"round trip", "messages come back", "clocks"}
"""Checks that a busy machine may fail."""
SOUND = Facts(
    version=(7, 2),
    max_memory=0,
    eviction_policy="allkeys-lru",
    subscriber_limit=BufferLimit(33554432, 8388608, 60),
    role="master",
    mode="standalone",
)


def examined(capsys, url, *arguments):
    """Return the state of each check by its name."""
    status = main(["doctor", url, "--json", "--timeout", str(PATIENCE_S), *arguments])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return status, {each["check"]: each["state"] for each in checks}, checks


def test_a_sound_fleet(redis_url, capsys):
    """Nothing is found, but what the clock may say."""
    for _ in range(2):
        listening(lone_cache(redis_url))
    _, states, checks = examined(capsys, redis_url)
    assert len(states) == 20
    bad = {name for name in states if states[name] != OK}
    assert bad <= BY_CLOCK, checks


def test_findings(redis_url, capsys):
    """Options that differ, sessions in L1; each with what to do."""
    options = {"L1_TTL": 5, "L1_EXCLUDE": ["other"]}
    fleet = [lone_cache(redis_url, **options), lone_cache(redis_url)]
    for each in fleet:
        listening(each)
    status, states, checks = examined(capsys, redis_url)
    assert status == 1
    assert states["the same options"] == states["sessions stay out of L1"] == BAD
    assert all(each["to_do"] for each in checks if each["state"] == BAD)


def test_nobody_listens(redis_url, capsys):
    """A finding, and what only processes can say is not known."""
    status, states, _ = examined(capsys, redis_url)
    assert (status, states["processes listen"]) == (1, BAD)
    assert states["L1 is trusted"] == UNKNOWN


def test_no_server(free_port, capsys):
    """Status 2."""
    status, states, _ = examined(capsys, f"redis://:hunter2@127.0.0.1:{free_port}/0")
    assert status == 2
    assert states["the servers answer"] == BAD


def test_an_account_without_rights(redis_server_factory, capsys):
    """Scripts and channels are named."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(
            *("ACL", "SETUSER", "shop", "on", ">hunter2hunter2", "~*"),
            *("resetchannels", "+@all", "-eval", "-evalsha"),
        )
    url = server.url.replace("redis://", "redis://shop:hunter2hunter2@")
    _, states, checks = examined(capsys, url)
    assert states["right to scripts"] == states["right to channels"] == BAD
    assert "hunter2" not in json.dumps(checks)


@pytest.fixture
def patient(redis_url):
    """A fleet of two in order, as far as is told."""
    engine = engine_of(lone_cache(redis_url))
    answers = [
        {
            "who": {"host": "web", "pid": n, "version": "1"},
            "conf": {"engine": {"A": 1}, "caches": []},
            "stats": {"trusted": True},
            "health": {},
        }
        for n in range(2)
    ]
    times = dict.fromkeys(("ping", "bus", "clock"), 0.0)
    return Patient(engine, {"redis://r": SOUND}, times, answers)


def found(patient):
    return {name for name, check, _ in CHECKS if check(patient)}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"failure": "away"}, "the servers answer"),
        ({"version": (5, 0)}, "version"),
        ({"role": "replica"}, "it is a master"),
        ({"mode": "cluster"}, "cluster mode"),
        ({"refused": ("EVALSHA",)}, "right to scripts"),
        ({"refused": ("SUBSCRIBE cachebridge:0",)}, "right to channels"),
        ({"max_memory": 9, "eviction_policy": "noeviction"}, "memory policy"),
        ({"subscriber_limit": BufferLimit(9, 0, 0)}, "buffer of subscribers"),
    ],
)
def test_what_a_server_says(patient, changed, name):
    """One finding, and no other."""
    assert found(patient) == set()
    patient.facts["redis://r"] = replace(SOUND, **changed)
    assert found(patient) == {name}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"who": {"host": "web", "pid": 1, "version": "2"}}, "one release"),
        ({"conf": {"engine": {"A": 2}, "caches": []}}, "the same options"),
        ({"stats": {"trusted": False}}, "L1 is trusted"),
        ({"health": {"messages_owed": 1}}, "nothing is owed"),
        (
            {"conf": {"engine": {"A": 1}, "caches": [{"L1_EXCLUDE": []}]}},
            "sessions stay out of L1",
        ),
    ],
)
def test_what_a_process_says(patient, changed, name):
    """The same of the second process."""
    patient.answers[1].update(changed)
    assert found(patient) == {name}


def test_what_is_measured(patient):
    """Each bound by itself; silence of some; keys that are never evicted."""
    patient.times.update(ping=1.0)
    assert found(patient) == {"round trip"}
    patient.times.update(ping=0.0, bus=1.0, clock=9.0)
    assert found(patient) == {"messages come back", "clocks"}
    patient.times.clear()
    patient.missing = 1
    assert found(patient) == {"all of them answer"}
    patient.missing = 0
    patient.facts["redis://r"] = replace(SOUND, eviction_policy="volatile-lru")
    caches = [{"TIMEOUT": None, "L1_EXCLUDE": list(_SESSIONS)}]
    patient.answers[0]["conf"]["caches"] = caches
    assert found(patient) == {"keys can be evicted"}


_SESSIONS = (
    "django.contrib.sessions.cache",
    "django.contrib.sessions.cached_db",
)


def test_a_server_far_away_without_protection():
    """TLS and a login are missed, but not on this machine."""
    cache = lone_cache("redis://cache.invalid:6379/0")
    assert "TLS and a login" in found(Patient(engine_of(cache)))
