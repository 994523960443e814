"""Groups and ``memoize`` of Django's backend."""

from __future__ import annotations

import threading

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest
from django.utils.safestring import mark_safe

from cachebridge import UncacheableError
from tests.unit.django.support import hits_of
from tests.unit.flask.support import Calls, at_once

pytestmark = pytest.mark.every_store


def test_objects_of_every_thread_share_a_group(cache):
    """Entries and statistics are the alias's, whichever thread asks."""
    calls = Calls()
    group = cache.group("product", lambda number: [number, calls()], ttl=60)
    assert at_once(lambda: group.get(1), threads=4) == [[1, 1]] * 4
    seen = []
    other = threading.Thread(target=lambda: seen.append(caches["default"].groups()))
    other.start()
    other.join()
    assert seen == [cache.groups()]
    assert (seen[0][0].hits, seen[0][0].loads) == (3, 1)
    assert hits_of(cache, lambda: group.get(1)) == 1


def test_keys_are_clean(cache):
    """No argument makes a key that Django would warn of."""
    group = cache.group("echo", repr)
    args = ("a b", "x" * 300, "é\n", ("a", "b"), mark_safe("<b>"), 1)
    for arg in args:
        assert group.get(arg) == repr(arg)
    assert group.get_many(args) == {arg: repr(arg) for arg in args}
    assert group.get({"a": [1]}) == repr({"a": [1]})


def test_prefix_version_and_key_function(bridge):
    """Full keys are made as Django makes them; ``clear`` finds them."""

    def make_key(key, prefix, version):
        return f"{prefix}/{version}/{key}"

    cache = bridge(KEY_PREFIX="p", VERSION=3, KEY_FUNCTION=make_key)
    calls = Calls()
    group = cache.group(
        "product", load_many=lambda args: {arg: calls() for arg in args}
    )
    assert group.get_many([1, 2]) == {1: 1, 2: 2}
    assert cache.get("group:product:1") == 1
    assert cache.get("group:product:1", version=4) is None
    assert group.invalidate(1)
    assert group.get(1) == 3


def test_timeout_of_the_alias(bridge):
    """Without a TTL of its own a group has the alias's."""
    cache = bridge(TIMEOUT=0)
    calls = Calls()
    group = cache.group("now", lambda _arg: calls())
    kept = cache.group("kept", lambda _arg: calls(), ttl=60)
    assert [group.get(1), group.get(1)] == [1, 2]
    assert [kept.get(1), kept.get(1)] == [3, 3]


def test_memoized_methods_of_models(cache):
    """A saved object is told by its class and primary key; others are refused."""
    calls = Calls()

    @cache.memoize(ttl=60)
    def size(session):
        return calls()

    assert size(Session(session_key="a")) == size(Session(session_key="a")) == 1
    assert size(Session(session_key="b")) == 2
    with pytest.raises(UncacheableError, match=r"size\(\)"):
        size(Session(session_key=None))
    assert size.invalidate(Session(session_key="b"))


@pytest.mark.parametrize(
    "arg", [HttpRequest(), SimpleUploadedFile("a.txt", b"a"), [HttpRequest()]]
)
def test_requests_and_files_are_no_arguments(cache, arg):
    """What they show is not all that they are."""
    with pytest.raises(UncacheableError, match="'product'"):
        cache.group("product", repr).get(arg)
