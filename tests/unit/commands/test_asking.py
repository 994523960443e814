"""The verbs that ask: one line for each process, and an exit status."""

from __future__ import annotations

import json
import os

import pytest

from cachebridge.commands import main
from cachebridge.commands.report import DONE, Report, Table, show
from tests.rig import (
    PATIENCE_S,
    after_heartbeats,
    engine_of,
    listening,
    lone_cache,
    rules_of,
)

PLACE = ["--key-prefix", "shop:"]
LONG = ["--timeout", str(PATIENCE_S)]


@pytest.fixture
def fleet(redis_url):
    """Two processes, as far as the bus can tell."""
    return [listening(lone_cache(redis_url, KEY_PREFIX="shop:")) for _ in range(2)]


def said(capsys, *arguments, status=0):
    assert main([*arguments, *LONG]) == status
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", ["who", "stats", "health", "conf"])
def test_tables_and_json(fleet, redis_url, verb, capsys):
    """Both have an answer of each process."""
    assert said(capsys, verb, redis_url)
    data = json.loads(said(capsys, verb, redis_url, "--json"))
    assert data["status"] == 0
    assert data["reached"] == len(data["answers"]) == 2
    origins = {each["who"]["origin"] for each in data["answers"]}
    assert origins == {rules_of(each).origin.hex() for each in fleet}


def test_the_sum(fleet, redis_url, capsys):
    """Counters of all processes are added up in the last line."""
    fleet[0].set("k", 1)
    for _ in range(5):
        fleet[0].get("k")
    fleet[1].get("k")
    lines = said(capsys, "stats", redis_url).splitlines()
    assert len(lines) == 4
    hits = sum(each.stats().l1_hits for each in fleet)
    assert lines[-1].startswith("2 processes")
    assert f" {hits} " in lines[-1]


def test_why(fleet, redis_url, capsys):
    """The sentence names the process that has changed the key, and what L2 has."""
    fleet[0].set("k", "old")
    after_heartbeats(fleet[1])
    fleet[1].set("k", "new")
    out = said(capsys, "why", redis_url, *PLACE, "k")
    assert out.count(f"/{os.getpid()}") >= 2
    assert "in L2: " in out
    data = json.loads(said(capsys, "why", redis_url, *PLACE, "k", "--json"))
    assert sorted(each["why"]["code"] for each in data["answers"]) == [
        "message",
        "trusted",
    ]
    assert data["l2"]["bytes"] > 0
    assert "new" not in out


def test_inspect(fleet, redis_url, capsys):
    """The shared store and every L1, side by side, without the value."""
    fleet[0].set("k", "a secret value")
    out = said(capsys, "inspect", redis_url, *PLACE, "k")
    assert len(out.splitlines()) == 4
    assert "secret" not in out
    data = json.loads(said(capsys, "inspect", redis_url, *PLACE, "k", "--json"))
    held = [each["why"] for each in data["answers"] if each["why"]["in_l1"]]
    assert [each["is_own_write"] for each in held] == [True]
    assert data["l2"]["exists"]


def test_top(fleet, redis_url, capsys, monkeypatch):
    """It repeats until it is interrupted; the busiest process comes first."""
    for _ in range(5):
        fleet[1].get("k")
    rounds = []

    def second_round(seconds):
        rounds.append(seconds)
        if len(rounds) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("cachebridge.commands.verbs.time.sleep", second_round)
    assert main(["top", redis_url, "--json", *LONG]) == 2
    assert rounds == [2.0, 2.0]
    first, _ = json.JSONDecoder().raw_decode(capsys.readouterr().out)
    origin = first["answers"][0]["who"]["origin"]
    assert origin == rules_of(fleet[1]).origin.hex()


def test_options_that_differ(redis_url, capsys):
    """A finding: the option, its values, and who has which."""
    for l1_ttl in (60.0, 30.0):
        listening(lone_cache(redis_url, L1_TTL=l1_ttl))
    assert main(["conf", redis_url, *LONG]) == 1
    told = capsys.readouterr()
    assert "60.0" in told.out
    assert "processes differ in L1_TTL" in told.err


def test_l1_not_trusted(fleet, redis_url, capsys):
    """A finding of stats: where L1 is off."""
    assert main(["l1", redis_url, "off", "--yes"]) == 0
    assert main(["stats", redis_url, *LONG]) == 1
    assert "not trusted in 2" in capsys.readouterr().err
    assert main(["l1", redis_url, "on", "--yes"]) == 0


def test_a_question_without_an_answer(redis_url, capsys, monkeypatch):
    """No process listens: status 2, and why that may be.  No change without a yes."""
    assert main(["who", redis_url]) == 2
    assert "no process answers" in capsys.readouterr().err
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    cache = lone_cache(redis_url, KEY_PREFIX="shop:")
    cache.set("k", 1)
    assert main(["clear", redis_url, *PLACE]) == 2
    assert cache.get("k") == 1
    assert main(["evict", redis_url, *PLACE, "k", "--yes"]) == 0
    assert lone_cache(redis_url, KEY_PREFIX="shop:").get("k") is None


def test_no_server(free_port, capsys, monkeypatch):
    """Status 2, without the password, which may come from a variable."""
    monkeypatch.setenv("SHOP", f"redis://:hunter2@127.0.0.1:{free_port}/0")
    assert main(["stats", "env:SHOP"]) == 2
    told = capsys.readouterr().err
    assert "nothing listens there" in told
    assert "hunter2" not in told
    assert main(["stats", "env:NOT_SET"]) == 2
    assert "'NOT_SET' is not set" in capsys.readouterr().err
    assert main(["stats", "memory://"]) == 2
    assert "no other process" in capsys.readouterr().err


class Screen:
    """A terminal, as far as ``show`` can tell, and what it was sent."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("is_terminal", [True, False])
def test_control_characters(is_terminal):
    """What a process has sent moves no cursor, and is no markup of rich."""
    screen = Screen()
    screen.isatty = lambda: is_terminal
    report = Report(DONE, {}, [Table(("role",), [("\x1b[2J[bold]x",)])])
    show(report, screen, as_json=False)
    assert "\x1b[2J" not in screen.text
    assert "[bold]x" in screen.text


def test_the_asker_listens_to_nothing(redis_url):
    """A command starts no listener of its own."""
    cache = lone_cache(redis_url)
    assert not engine_of(cache).listening.is_running()
