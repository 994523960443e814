"""The panel in the real toolbar: calls by level, callers; and nothing afterwards."""

from __future__ import annotations

import asyncio
import re

import pytest
from django.core.cache import caches
from django.test import AsyncClient, Client

from cachebridge.contrib.django.toolbar import recording
from cachebridge.observing import HOOK
from tests.unit.django.support import LOCMEM, entry, trusted

HEADER = ["level", "name", "alias", "key", "ms", "trips", "loaded", "waited", "left"]


@pytest.fixture(autouse=True)
def site(settings, set_caches, redis_url):
    settings.DEBUG = True
    settings.INTERNAL_IPS = ["127.0.0.1"]
    settings.INSTALLED_APPS = [
        *settings.INSTALLED_APPS,
        "django.contrib.staticfiles",
        "debug_toolbar",
    ]
    settings.MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware"]
    settings.ROOT_URLCONF = "tests.unit.contrib.toolbar_urls"
    set_caches(default=entry(redis_url), local={"BACKEND": LOCMEM})
    trusted(caches["default"])


def rows_of(response):
    """Return the table of the panel as the toolbar loads it."""
    page = response.content.decode()
    found = re.search(r'data-request-id="(\w+)"', page)
    assert found, page
    query = {"request_id": found[1], "panel_id": "CacheBridgePanel"}
    content = Client().get("/__debug__/render_panel/", query).json()["content"]
    assert "secret" not in content
    rows = re.findall(r"<tr>\s*(<td>.*?)</tr>", content, re.DOTALL)
    cells = [
        [re.sub(r"<.*?>", "", each) for each in re.findall(r"<td>.*?</td>", row)]
        for row in rows
    ]
    assert f"<small>{len(cells)} calls" in page
    return [dict(zip(HEADER, row, strict=True)) for row in cells]


def test_calls():
    """Each with its level, key, round trips and caller; nested ones of a loader too."""
    Client().get("/calls/")  # the server gets to know the scripts
    rows = rows_of(Client().get("/calls/"))
    told = [(each["name"], each["level"], each["trips"]) for each in rows]
    assert told == [
        ("set", "", "1"),
        ("get", "L1", "0"),
        ("get", "miss", "1"),
        ("get_many", "L1, miss", "1"),
        ("get_or_set", "miss", "2"),
        ("get", "L1", "0"),
        ("delete", "", "1"),
    ]
    assert {each["alias"] for each in rows} == {"default"}
    assert rows[1]["key"].startswith("&#x27;found&#x27;")
    assert float(rows[1]["left"]) > 0
    assert float(rows[4]["loaded"]) > 0
    assert all("toolbar_urls.py" in each["key"] for each in rows)


def test_awaited_calls():
    """The same of an async view, under the async handler."""
    response = asyncio.run(AsyncClient().get("/awaited/", REMOTE_ADDR="127.0.0.1"))
    rows = rows_of(response)
    told = [(each["name"], each["level"]) for each in rows]
    assert told == [
        ("aset", ""),
        ("aget", "L1"),
        ("aget", "miss"),
        ("aget_or_load", "miss"),
        ("adelete", ""),
    ]
    assert all("toolbar_urls.py" in each["key"] for each in rows)


def test_what_has_no_method_here():
    """A group's round trips are listed as other."""
    rows = rows_of(Client().get("/grouped/"))
    assert {each["name"] for each in rows} == {"other"}
    assert sum(int(each["trips"]) for each in rows) >= 1


def test_no_calls():
    """It says so."""
    assert rows_of(Client().get("/nothing/")) == []


@pytest.mark.parametrize("path", ["/calls/", "/fails/"])
def test_nothing_is_left(path):
    """After a request all methods are the class's, and no observer is left."""
    client = Client(raise_request_exception=False)
    for _ in range(3):
        client.get(path)
    found = recording.begin()
    recording.end(found)
    depth, method = 0, caches["default"].get
    while method := getattr(method, "__wrapped__", None):
        depth += 1
    assert depth <= 1  # the toolbar's own
    assert HOOK.observer is None
    assert recording.current() is None
    assert recording._uses == recording._replaced == {}


def test_tasks_that_share_an_object():
    """Each request has its own calls, however they overlap."""

    async def both():
        client = AsyncClient()
        return await asyncio.gather(
            *(client.get("/awaited/", REMOTE_ADDR="127.0.0.1") for _ in range(3))
        )

    for response in asyncio.run(both()):
        assert len(rows_of(response)) == 5
    assert HOOK.observer is None


def test_many_calls():
    """A few hundred are listed, all are counted."""
    found = recording.begin()
    try:
        for _ in range(recording.MOST_CALLS + 3):
            caches["default"].get("k")
    finally:
        recording.end(found)
    assert (len(found.calls), found.left_out) == (recording.MOST_CALLS, 3)


def test_an_observer_that_was_there():
    """It still hears of everything, and is put back."""
    heard = []

    class Other:
        def exchange(self, label, request):
            heard.append(label)
            return recording.ExitStack()

    HOOK.observer = other = Other()
    try:
        found = recording.begin()
        caches["default"].get("nowhere")
        recording.end(found)
        assert HOOK.observer is other
    finally:
        HOOK.observer = None
    assert len(heard) == 1
    assert found.calls[0].exchanges == 1
