"""Django's async methods while Redis is away: the answers of their counterparts."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync

from tests.proofs.outages.adapters import DJANGO

CALLS = {
    "get": ("k", "default"),
    "get_many": (["k", "l"],),
    "has_key": ("k",),
    "set": ("k", 1),
    "set_many": ({"k": 1, "l": 2},),
    "add": ("k", 1),
    "touch": ("k", 10),
    "incr": ("n",),
    "decr": ("n",),
    "delete": ("k",),
    "delete_many": (["k", "l"],),
    "get_or_set": ("m", lambda: "loaded"),
    "incr_version": ("v",),
    "decr_version": ("v",),
    "clear": (),
}


@pytest.fixture
def cache(free_port):
    """Return a cache whose server is not there."""
    cache = DJANGO.make(f"redis://127.0.0.1:{free_port}/0", "p")
    yield cache
    DJANGO.forget(cache)


def _outcome(call, *args):
    try:
        return call(*args)
    except Exception as exc:
        return type(exc)


@pytest.mark.parametrize("name", CALLS)
def test_async_method_answers_alike(cache, name):
    """An async method answers what the plain one answers."""
    args = CALLS[name]
    plain = _outcome(getattr(cache, name), *args)
    other = _outcome(async_to_sync(getattr(cache, f"a{name}")), *args)
    assert plain == other
