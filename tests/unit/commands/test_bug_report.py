"""``report``: one text with everything, and nothing that must stay private."""

from __future__ import annotations

import io
import json

import redis

from cachebridge.commands import main
from cachebridge.commands.bug_report import bug_report
from cachebridge.commands.report import show
from tests.rig import PATIENCE_S, listening, lone_cache


def test_everything_but_secrets(redis_server_factory, capsys, monkeypatch):
    """All parts are there; no password, key or value is."""
    monkeypatch.setattr("cachebridge.commands.bug_report.PAUSE_S", 0.0)
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(
            "ACL", "SETUSER", "shop", "on", ">hunter2hunter2", "~*", "&*", "+@all"
        )
    url = server.url.replace("redis://", "redis://shop:hunter2hunter2@")
    cache = listening(lone_cache(url))
    cache.set("a-hidden-key", "a hidden value")
    cache.delete("a-hidden-key")
    report = bug_report(cache, PATIENCE_S)
    text, data = shown(report, as_json=False), shown(report, as_json=True)
    for part in ("who", "conf", "health", "stats", "history", "log events", "doctor"):
        assert f"== {part} ==" in text
    assert "redis " in text
    assert json.loads(data)["stats"]["answers"]
    for each in (text, data):
        assert "hunter2" not in each
        assert "hidden" not in each


def shown(report, *, as_json):
    out = io.StringIO()
    show(report, out, as_json=as_json)
    return out.getvalue()


def test_without_a_server(free_port, capsys, monkeypatch):
    """What cannot be asked says why, in each place; the status is 2."""
    monkeypatch.setattr("cachebridge.commands.bug_report.PAUSE_S", 0.0)
    assert main(["report", f"redis://127.0.0.1:{free_port}/0"]) == 2
    text = capsys.readouterr().out
    assert "nothing listens there" in text
    assert "== doctor ==" in text
