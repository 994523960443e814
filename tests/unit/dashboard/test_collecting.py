"""What other processes answer is not relied on: any JSON makes a row."""

from __future__ import annotations

import threading

import pytest

from cachebridge.dashboard.collecting import (
    Collector,
    _curve,
    _hot,
    _look_at,
    _process,
)
from cachebridge.dashboard.parts import (
    NOTHING,
    age,
    count,
    curve_of,
    parts_of,
    percent,
    size,
)
from tests.rig import listening, lone_cache

HOSTILE = "<script>\x1b[2J" * 99
ANSWERS = [
    {"who": {}},
    {"who": {"host": [], "pid": {}, "since": "x", "prefixes": {"a": 1}}},
    {"who": {"prefixes": [None, [], 1]}, "stats": [], "health": "x", "error": HOSTILE},
    {
        "who": {"role": HOSTILE},
        "stats": {"l1_hits": True, "l1_bytes": "1", "trusted": 3},
    },
    {
        "who": {"since": 1e308},
        "stats": {"l1_hits": 1e308, "delay_p50_s": [], "misses": -1},
    },
    {"who": {}, "history": {"at": [1, "x", None], "l1_hits": [[]], "misses": 5}},
    {"who": {}, "hot": {"keys": [1, {}, {"key": HOSTILE, "hits_per_s": "x"}]}},
    {"who": {}, "hot": {"keys": {"key": 1}, "hits_per_s": []}, "history": [1]},
    {"who": {"since": -1e308}, "stats": {"trusted": None, "invalidation_delay": [1]}},
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_hostile_answers(answer):
    """They are rows with what can be read of them, escaped and bounded."""
    made = _process(answer, {"default": ":1:"})
    server = {"label": "x", "caches": ["default"], "trouble": "", "outage": False}
    server |= {"reached": 1, "missing": 0, "processes": [made]}
    server |= {"curve": _curve([answer]), "hot": _hot([answer], {"default": ":1:"})}
    parts = parts_of({"at": 0, "caches": ["default"], "servers": [server]})
    text = "".join(parts.values())
    assert "<script>" not in text
    assert "\x1b" not in text
    assert len(text) < 10_000
    (row,) = _look_at([{"who": answer["who"], "why": answer.get("stats")}])
    assert row["in_l1"] is False


def points(at, hits, misses):
    none = [0] * len(at)
    columns = {
        "at": at,
        "l1_hits": hits,
        "l1_shared_hits": none,
        "l2_hits": none,
        "misses": misses,
    }
    return {"history": columns}


def test_curve():
    """Processes are added up by the clock; a time without reads is a gap."""
    one = points([100.0, 110.0, 140.5], [1, 0, 4], [3, 0, 0])
    other = points([105.0, 141.0], [3, 0], [1, 4])
    assert _curve([one, other]) == [0.5, None, None, None, 0.5]
    assert _curve([{}]) == []
    long = points([10.0 * n for n in range(999)], [1] * 999, [0] * 999)
    assert _curve([long]) == [1.0] * 60
    drawn = curve_of([0.5, None, 1.0])
    assert drawn.count("<polyline") == 2
    assert "lowest 50%, highest 100%, last 100%" in drawn
    assert curve_of([None]) is None


def test_hot_keys():
    """Added up over processes; named as the program of the cache has them."""

    def hot(**rates):
        keys = [{"key": key, "hits_per_s": each} for key, each in rates.items()]
        return {"hot": {"keys": keys, "hits_per_s": 100.0}}

    found = _hot([hot(ak=60.0, z=1.0), hot(abk=70.0, ak=20.0)], {"A": "a", "B": "ab"})
    assert [(each["cache"], each["key"]) for each in found] == [
        ("A", "k"),
        ("B", "k"),
        ("", "z"),
    ]
    assert found[0] == {
        "cache": "A",
        "key": "k",
        "per_s": 80.0,
        "share": 0.4,
        "processes": 2,
    }


def test_one_question_for_all(redis_url):
    """Who asks at the same time gets what the first one has collected."""
    cache = listening(lone_cache(redis_url))
    collector, found = Collector(), []
    barrier = threading.Barrier(4)

    def ask():
        barrier.wait()
        found.append(collector.collect({"cache": cache}))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({id(each) for each in found}) == 1
    collector.forget()
    assert collector.collect({"cache": cache}) is not found[0]
    known = collector.collect({"cache": cache}, with_keys=True)
    assert known is collector.collect({"cache": cache}, with_keys=True)
    assert known is not collector.collect({"cache": cache})  # without keys
    collector.forget()


def test_what_is_forgotten_includes_a_collection_under_way(monkeypatch):
    """It may have read the switch before the switch was thrown."""
    collector, started = Collector(), threading.Event()

    def slowly(_caches, **_how):
        if not started.is_set():
            started.set()
            forgetting.start()
            forgetting.join(0.1)  # it waits for us; longer is as good
        return {}

    monkeypatch.setattr("cachebridge.dashboard.collecting.collect", slowly)
    forgetting = threading.Thread(target=collector.forget)
    old = collector.collect({})
    forgetting.join()
    assert collector.collect({}) is not old


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (None, NOTHING),
    ],
)
def test_sizes(given, told):
    assert size(given) == told.replace(" ", "\N{NBSP}")


@pytest.mark.parametrize(
    ("given", "told"),
    [(0, "0 s"), (61, "1 min"), (7300, "2 h"), (3600 * 49, "2 d"), (None, NOTHING)],
)
def test_ages(given, told):
    assert age(given) == told.replace(" ", "\N{NBSP}")


def test_numbers():
    assert percent(0.9123) == "91.2\N{NBSP}%"
    assert percent(None) == NOTHING
    assert count(12345) == "12,345"
    assert count(12_345_678) == "12.3\N{NBSP}M"
