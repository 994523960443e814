"""Patterns find a cache's own keys and nothing else, whatever its prefix holds."""

from __future__ import annotations

import pytest
import redis
from django.core.cache.backends.base import default_key_func
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachebridge.core.keys import (
    ANY_KEY,
    KeyPattern,
    affixes_of,
    escape_glob,
    fits_message,
    literal_start,
    matcher_of,
    matches_everything,
    pattern_of,
)
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.waiting.run import run

TRICKY = ["", "app", "a*b", "a?b", "[x]", "a]b[", "\\", "a\\*", "é*", "%s", "^[a-z]"]


@pytest.mark.parametrize("prefix", TRICKY)
def test_django_default_key_function(prefix):
    """The prefix stands for itself, key and version for anything."""
    pattern = pattern_of(lambda key, version: default_key_func(key, prefix, version))
    assert pattern == KeyPattern(escape_glob(prefix) + ":*:*", prefix + ":")


@pytest.mark.parametrize(
    ("key_format", "is_told"),
    [
        ("p:{version}:{key}", True),
        (":{version}:{key}", True),
        ("[*]?:{version}:{key}", True),
        ("shop:{key}:{version}", True),
        ("p{key}", True),
        ("CUSTOM-p-{version}-{key}", True),
        ("p[{version}]{key}", True),
        ("{version}/p/{key}", False),
        ("{key}:p", False),
        ("site:{version}:shop:{key}", False),
        ("p:{key}.html", False),
    ],
)
def test_a_prefix_tells_all_keys_of_some_functions(key_format, is_told):
    """Not where more than marks follow: other caches' keys may begin the same way."""
    pattern = pattern_of(lambda key, version: key_format.format(**locals()))
    assert pattern.is_told_by_prefix is is_told


@pytest.mark.parametrize("prefix", TRICKY)
def test_redis_agrees(prefix, redis_url):
    """On a real server the escaped pattern finds exactly the keys with the prefix."""
    pattern = pattern_of(lambda key, version: default_key_func(key, prefix, version))
    others = {f"{other}:1:k" for other in TRICKY} | {"aXb:1:k", "x:1:k", "aab:1:k"}
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.mset(dict.fromkeys(others, "v"))
        found = set(client.scan_iter(match=pattern.glob, count=1000))
    assert found == {key for key in others if key.startswith(pattern.prefix)}


@given(st.text(alphabet="ab*?[]\\^-!é\n", max_size=6), st.data())
def test_escaped_text_matches_itself_only(text, data):
    """escape_glob leaves no character with a meaning of its own."""
    other = data.draw(st.text(alphabet="ab*?[]\\^-!é\n", max_size=6))
    store = MemoryStore(MemoryServer())
    run(store.store([(text, b"1"), (other, b"2")], None, None))
    assert run(store.scan(escape_glob(text), 0)) == (0, [text])


@pytest.mark.parametrize(
    "make_key",
    [
        lambda key, version: str(abs(hash((key, version)))),
        lambda key, version: "constant",
        lambda key, version: f"{key}-{key}",
        lambda key, version: ANY_KEY + str(int(version)),
        lambda key, version: key + 1,
    ],
    ids=["hashed", "constant", "twice", "needs a number", "raises"],
)
def test_no_pattern_for_what_cannot_be_found(make_key):
    """A key function that hides or repeats the key has no pattern."""
    assert pattern_of(make_key) is None


def test_version_in_front():
    """What precedes version and key is the prefix that peers drop: here everything."""
    assert pattern_of(lambda key, version: f"{version}/{key}") == ("*/*", "")


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("", True),
        ("x" * 0xFFFF, True),
        ("x" * 0x10000, False),
        ("é" * 0x7FFF, True),
        ("é" * 0x8000, False),
        ("\ud800" * 0x5555, True),
        ("\ud800" * 0x5556, False),
    ],
)
def test_message_length_counts_bytes(key, fits):
    """A key fits into a message up to 65,535 bytes of UTF-8."""
    assert fits_message(key) is fits


PIECES = [*"abz-^!]", "[", "[^", "]", "*", "?", "\\", "é", "a-z", "z-a", "**", "[]"]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_agrees_on_any_pattern(redis_url, data):
    """Classes, ranges, what is not closed, letters of several bytes: as in Redis."""
    text = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
    keys = data.draw(st.lists(text, min_size=1, max_size=20))
    glob = data.draw(text | st.sampled_from([*keys, "[^a]*", "*é", "a?", "[a-]z*"]))
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        client.mset(dict.fromkeys(keys, "v"))
        found = {name.decode() for name in client.keys(glob)}
    matches = matcher_of(glob)
    assert found == {key for key in keys if matches(key)}
    assert all(key.startswith(literal_start(glob)) for key in found)


def test_a_pattern_of_many_stars_is_quick():
    """Each star is tried once: a text that nearly matches does not take for ever."""
    matches = matcher_of("*a" * 30 + "b")
    assert not matches("a" * 8000)
    assert matches("a" * 8000 + "b")


@pytest.mark.parametrize(
    ("glob", "start", "everything"),
    [
        ("*", "", True),
        ("?*", "", True),
        ("??", "", False),
        ("a*", "a", False),
        ("product:[12]", "product:", False),
        ("a\\*b*c", "a*b", False),
        ("ab\\", "ab\\", False),
        ("abc", "abc", False),
    ],
)
def test_what_a_pattern_says_of_its_keys(glob, start, everything):
    """How all of them begin, and whether there is any that it leaves."""
    assert literal_start(glob) == start
    assert matches_everything(glob) is everything


def test_affixes():
    """What stands around a caller's key is escaped; a key is found in the full one."""
    around = affixes_of(lambda key: f"a*:{key}?b")
    assert around.pattern("k*") == ("a\\*:k*\\?b", "a*:k")
    assert matcher_of(around.pattern("k\\").glob)("a*:k\\?b")
    assert around.key_of("a*:k1?b") == "k1"
    assert affixes_of(lambda key: f"{key}{key}") is None
    assert affixes_of(lambda _key: "k") is None
    assert affixes_of(lambda key: str(int(key))) is None
