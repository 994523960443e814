"""Log lines name their event, and the docs have a table of all events."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.rig import breaker_of, lone_cache

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def calls():
    """Yield every call of the package, with where it stands."""
    for path in sorted((ROOT / "cachebridge").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def is_logger(node):
    return (
        isinstance(node, ast.Attribute)
        and node.attr in LEVELS
        and isinstance(node.value, ast.Name)
        and node.value.id.strip("_") in {"log", "logger"}
    )


def test_every_line_has_an_event():
    """Also those that are made by ``partial`` and logged later."""
    found = [
        (where, {each.arg for each in call.keywords})
        for where, call in calls()
        if is_logger(call.func) or (call.args and is_logger(call.args[0]))
    ]
    assert len(found) > 30
    assert [where for where, names in found if "extra" not in names] == []


def test_the_table_is_complete():
    """The events of the code are those of the docs."""
    used = set()
    for _, call in calls():
        if isinstance(call.func, ast.Name) and call.func.id == "event":
            used |= {
                each.value
                for each in ast.walk(call.args[0])
                if isinstance(each, ast.Constant)
            }
    used |= {"watch.broken", "watch.again"}
    text = (ROOT / "docs/operations.md").read_text().partition("## Log events")[2]
    table = text.partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z0-9_.]+)` \|", table, re.MULTILINE)) == used


@pytest.mark.parametrize("password", ["hunter2hunter2"])
def test_an_outage(free_port, password, caplog):
    """The record has the event and the location, without its password."""
    url = f"redis://:{password}@127.0.0.1:{free_port}/0"
    cache = lone_cache(url, BREAKER_FAILURES=1)
    cache.get("k")
    assert breaker_of(cache).is_open
    (told,) = [
        each.cachebridge
        for each in caplog.records
        if each.cachebridge["event"] == "outage.begins"
    ]
    assert told["location"] == f"redis://:***@127.0.0.1:{free_port}/0"
