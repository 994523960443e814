"""``hot``, ``history`` and ``top``: what a fleet does now, and did."""

from __future__ import annotations

import json
import threading

import pytest

from cachebridge.commands import main
from cachebridge.commands.watching import points_of
from tests.rig import PATIENCE_S, engine_of, listening, lone_cache

LONG = ["--timeout", str(PATIENCE_S)]
PLACE = ["--key-prefix", "shop:"]


@pytest.fixture
def fleet(redis_url):
    """Two processes, as far as the bus can tell."""
    return [listening(lone_cache(redis_url, KEY_PREFIX="shop:")) for _ in range(2)]


@pytest.fixture
def busy(fleet):
    """Threads that hit one key all the time, and nothing else."""
    is_over = threading.Event()

    def hit(cache):
        cache.set("hot", 1)
        while not is_over.is_set():
            cache.get("hot")
            is_over.wait(0.001)  # or the other threads of this process starve

    threads = [threading.Thread(target=hit, args=(each,)) for each in fleet]
    for each in threads:
        each.start()
    yield
    is_over.set()
    for each in threads:
        each.join()


def data_of(capsys, *arguments):
    assert main([*arguments, "--json", *LONG]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("busy")
def test_hot(redis_url, capsys):
    """The key as its callers have it, summed over the processes."""
    data = data_of(capsys, "hot", redis_url, "3", *PLACE)
    for each in data["answers"]:
        assert [one["key"] for one in each["hot"]["keys"]] == ["shop:hot"]
    assert main(["hot", redis_url, *PLACE, *LONG]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith("hot key")
    assert line.startswith("hot ")


@pytest.mark.parametrize("most", ["0", "51", "x"])
def test_too_many(redis_url, most, capsys):
    """A clear refusal, before anything is asked."""
    with pytest.raises(SystemExit):
        main(["hot", redis_url, most])
    assert "argument N: invalid" in capsys.readouterr().err


def test_history(fleet, redis_url, capsys):
    """Points of the processes are added up by their ten seconds."""
    for each in fleet:
        history = engine_of(each).history
        history._points.append(history_point(at=1000.0, l1_hits=3, l2_hits=1))
        history._points.append(history_point(at=1010.0, l1_hits=0, l2_hits=0))
    lines = said(capsys, "history", redis_url)
    assert lines[1].split()[1:7] == ["2", "2", "75.0%", "6", "2", "0"]
    assert lines[2].split()[1:6] == ["2", "2", "0", "0", "0"]
    data = data_of(capsys, "history", redis_url)
    assert data["answers"][0]["history"]["at"] == [1000.0, 1010.0]


def said(capsys, *arguments):
    assert main([*arguments, *LONG]) == 0
    return capsys.readouterr().out.splitlines()


def history_point(**known):
    from cachebridge.engine.watching.history import COLUMNS

    return tuple(
        {"trusted": 1, "seconds": 10.0, **known}.get(each, 0) for each in COLUMNS
    )


@pytest.mark.parametrize(
    "columns",
    [{}, {"at": []}, {"at": [1.0], "l1_hits": []}, {"l1_hits": [1]}, {"at": 1}],
)
def test_forged_history(columns):
    """What another process has sent breaks nothing."""
    assert points_of(columns) == []


@pytest.mark.usefixtures("busy")
def test_top_has_hot_keys(redis_url, capsys, monkeypatch):
    """They stand below the processes."""

    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("cachebridge.commands.verbs.time.sleep", interrupt)
    assert main(["top", redis_url, *PLACE, "--json", *LONG]) == 2
    data = json.loads(capsys.readouterr().out)
    assert data["hot"][0]["hot key"] == "hot"
