"""``hot``, ``history`` and ``top``: what a fleet does now, and did."""

from __future__ import annotations

import io
import json
import os
import threading

import pytest

from cachebridge.commands import main
from cachebridge.commands.report import DONE, FINDING, Report, Table, watched
from cachebridge.commands.watching import _table_of_hot, points_of
from cachebridge.engine.fleet import answers
from cachebridge.engine.watching.history import COLUMNS
from tests.rig import (
    PATIENCE_S,
    after_heartbeats,
    engine_of,
    eventually,
    listening,
    lone_cache,
    rules_of,
)

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
    assert lines[1].split()[1:7] == ["2", "2", "75.0%", "6", "0", "2"]
    assert lines[2].split()[1:6] == ["2", "2", "0", "0", "0"]
    data = data_of(capsys, "history", redis_url)
    assert data["answers"][0]["history"]["at"] == [1000.0, 1010.0]


def said(capsys, *arguments):
    assert main([*arguments, *LONG]) == 0
    return capsys.readouterr().out.splitlines()


def history_point(**known):
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


def test_tail(fleet, redis_url, capsys):
    """A write that several processes have heard of is one line, with its writer."""
    reader, writer = fleet
    third = listening(lone_cache(redis_url, KEY_PREFIX="shop:"))
    writer.set("k", 1)
    for each in (reader, third):
        after_heartbeats(each)  # past the message of the set
        assert each.get("k") == 1
    for each in (reader, third):
        rules_of(each).trail.reset()
    writer.delete("k")
    eventually(lambda: all(rules_of(each).trail.since(0) for each in (reader, third)))
    lines = said(capsys, "tail", redis_url, "60", *PLACE)
    (line,) = [each for each in lines if "changed by " in each and "this" not in each]
    assert f"/{os.getpid()}" in line
    data = data_of(capsys, "tail", redis_url, "60", *PLACE)
    heard = [
        one
        for each in data["answers"]
        for one in each["tail"]["events"]
        if one.get("origin") == rules_of(writer).origin.hex()
    ]
    assert len(heard) == 2


@pytest.mark.parametrize("answer", [{}, {"events": 1}, {"events": [1, {}]}])
def test_a_forged_tail(fleet, redis_url, answer, capsys, monkeypatch):
    """What another process has sent breaks nothing."""
    monkeypatch.setitem(answers._VERBS, "tail", lambda *_args: answer)
    said(capsys, "tail", redis_url)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "3601", "x"])
def test_seconds_of_tail(seconds, redis_url):
    """A clear refusal, before anything is asked."""
    with pytest.raises(SystemExit):
        main(["tail", redis_url, seconds])


class Terminal(io.StringIO):
    """A text file that says it is a terminal."""

    def isatty(self):
        return True


def test_a_live_table(monkeypatch):
    """With rich each round takes the place of the last; the newest rows stay."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    rows = [(f"row {n}",) for n in range(100)]
    with watched(terminal, as_json=False) as show_next:
        for _ in range(2):
            show_next(Report(DONE, {}, [Table(("n",), rows, newest_last=True)], "text"))
    written = terminal.getvalue()
    assert "row 99" in written
    assert "row 10 " not in written
    assert "\x1b[1A" in written  # back to the beginning


def test_a_plain_file_is_watched():
    """Round after round, findings and all."""
    out = io.StringIO()
    with watched(out, as_json=False) as show_next:
        show_next(Report(FINDING, {}, [Table(("n",), [("1",)])], "a finding"))
        show_next(Report(DONE, {}, [Table(("n",), [("2",)])]))
    assert out.getvalue() == "n\n1\na finding\nn\n2\n"


def test_hot_keys_that_are_none():
    """What another process has sent in place of a key is left out."""
    answer = {"who": {}, "hot": {"keys": [1, None, "x"], "hits_per_s": []}}
    assert _table_of_hot(None, [answer], 3).rows == []
