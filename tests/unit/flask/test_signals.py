"""The four signals."""

from __future__ import annotations

import pytest

from cachebridge.flask_ext import (
    Cache,
    cache_memoize_hit,
    cache_memoize_miss,
    cache_view_hit,
    cache_view_miss,
)

SIGNALS = (cache_view_miss, cache_view_hit, cache_memoize_miss, cache_memoize_hit)


@pytest.fixture
def sent():
    """Return the names and contents of the signals, in the order of sending."""
    found = []
    receivers = []
    for signal in SIGNALS:

        def receive(_sender, signal=signal, **content):
            found.append((signal.name, content))

        signal.connect(receive)
        receivers.append((signal, receive))
    yield found
    for signal, receive in receivers:
        signal.disconnect(receive)


@pytest.mark.parametrize("enabled", [True, False])
def test_each_call_sends_one(app, sent, enabled):
    """A miss before the function runs, a hit when it does not; if enabled."""
    app.config["CACHE_ENABLE_SIGNALS"] = enabled
    cache = Cache(app)
    f = cache.memoize(60)(lambda a, b=0: a + b)
    cached = cache.cached(60, key_prefix="k")(lambda: len(sent))
    f(1, b=2)
    f(1, 2)
    assert [cached(), cached()] == ([3, 3] if enabled else [0, 0])
    names = [name for name, _ in sent]
    if not enabled:
        assert names == []
        return
    assert names == [
        *("cache-memoize-miss", "cache-memoize-hit"),
        *("cache-view-miss", "cache-view-hit"),
    ]
    miss, hit, view, _ = (content for _, content in sent)
    assert miss["cache_key"] == hit["cache_key"]
    assert (miss["args"], miss["kwargs"], miss["f"]) == ((1,), {"b": 2}, f.uncached)
    assert view == {"cache": cache, "cache_key": "k", "args": (), "kwargs": {}}


def test_a_hit_can_show_in_the_response(app, cache, client):
    """The header says so with response_hit_indication, and only for a hit."""

    @app.route("/page")
    @cache.cached(60, response_hit_indication=True)
    def page():
        return "page"

    headers = [client.get("/page").headers.get("hit_cache") for _ in range(3)]
    assert headers == [None, "True", "True"]
