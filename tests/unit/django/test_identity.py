"""A key's identity is its full Redis key; nothing remembered may cut that short."""

from __future__ import annotations

import contextvars
import hashlib
import threading
from unittest import mock

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheKey
from django.core.exceptions import ImproperlyConfigured

from cachebridge.django_backend import CacheBridge
from cachebridge.l2.location import parse_location
from tests.rig import engine_of, eventually, l2_of
from tests.unit.django.support import entry, hits_of, trusted

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
HERE = "tests.unit.django.test_identity"


def tenant_key(key, key_prefix, version):
    return f"{tenant.get()}:{key_prefix}:{version}:{key}"


def reversed_key(key, key_prefix, version):
    return f"{key_prefix}:{version}:{str(key)[::-1]}"


class OwnMakeKey(CacheBridge):
    def make_key(self, key, version=None):
        return f"{tenant.get()}-{super().make_key(key, version)}"


class OwnMakeAndValidateKey(CacheBridge):
    def make_and_validate_key(self, key, version=None):
        key = f"{tenant.get()}-{key}"
        return "own:" + hashlib.sha256(key.encode()).hexdigest()


class Strict(CacheBridge):
    def validate_key(self, key):
        if key.endswith(":refused"):
            raise InvalidCacheKey(key)


def _in_context(name, call):
    def run():
        tenant.set(name)
        return call()

    return contextvars.copy_context().run(run)


TENANTS = {
    "KEY_FUNCTION": {"KEY_FUNCTION": f"{HERE}.tenant_key"},
    "make_key": {"BACKEND": f"{HERE}.OwnMakeKey"},
    "make_and_validate_key": {"BACKEND": f"{HERE}.OwnMakeAndValidateKey"},
}


@pytest.fixture(params=TENANTS)
def by_tenant(request, bridge):
    """Return a cache whose keys depend on a context variable."""
    return bridge(**TENANTS[request.param])


def test_no_value_crosses_tenants_within_a_thread(by_tenant):
    """The same short key, hot in L1, means another thing in another context."""
    for name in ("red", "blue"):
        _in_context(name, lambda: by_tenant.set("k", tenant.get()))
    for _ in range(3):
        for name in ("red", "blue"):
            for read in (
                lambda: by_tenant.get("k"),
                lambda: by_tenant.get_many(["k"])["k"],
                lambda: by_tenant.get_or_set("k", "loaded"),
            ):
                assert _in_context(name, read) == name
    assert by_tenant.get("k") is None
    assert not _in_context("green", lambda: by_tenant.has_key("k"))
    assert _in_context("red", lambda: by_tenant.delete("k"))
    assert _in_context("blue", lambda: by_tenant.get("k")) == "blue"


def test_no_value_crosses_tenants_between_threads(by_tenant):
    """Nor with threads that read and write the same short keys at once."""
    wrong: list[tuple[str, object]] = []

    def serve(name):
        tenant.set(name)
        mine = caches["default"]
        for number in range(150):
            key = f"k{number % 3}"
            if number % 10 == 0:
                mine.set(key, name)
            values = (mine.get(key, name), mine.get_or_set(key, lambda: name))
            wrong.extend((name, value) for value in values if value != name)

    threads = [threading.Thread(target=serve, args=(f"t{n % 4}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_own_make_and_validate_key_has_its_say(bridge):
    """Django's backends call it, so a subclass may override that one alone."""
    cache = bridge(BACKEND=f"{HERE}.OwnMakeAndValidateKey")
    cache.set("k", 1)
    assert cache.get("k") == 1
    stored = l2_of(cache).scan("*", 0)[1]
    assert cache.make_and_validate_key("k") in stored


def test_an_own_validate_key_has_its_say_on_every_call(bridge):
    """Also on what L1 could answer."""
    cache = bridge(BACKEND=f"{HERE}.Strict")
    cache.set("fine", 1)
    for _ in range(2):
        assert cache.get("fine") == 1
        for call in (
            lambda: cache.get("refused"),
            lambda: cache.set("refused", 1),
            lambda: cache.get_many(["fine", "refused"]),
            lambda: cache.delete_many(["fine", "refused"]),
        ):
            with pytest.raises(InvalidCacheKey):
                call()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2),
        ("key_prefix", "other"),
        ("key_func", reversed_key),
        ("make_key", lambda key, version=None: f"patched:{key}"),
        ("make_and_validate_key", lambda key, version=None: f"patched:{key}"),
    ],
)
def test_what_keys_depend_on_may_change_at_run_time(cache, name, value):
    """One object changes, while others of the same alias go on as before."""
    cache.set("key", "first")
    assert cache.get("key") == "first"
    other = caches.create_connection("default")
    with mock.patch.object(cache, name, value):
        assert cache.get("key") is None
        assert cache.get_many(["key"]) == {}
        assert "key" not in cache
        cache.set("key", "second")
        assert [cache.get("key"), other.get("key")] == ["second", "first"]
        assert cache.get_or_set("fresh", "changed") == "changed"
        assert other.get("fresh") is None
    other.set("key", "third")
    assert cache.get("key") == other.get("key") == "third"
    assert other.get("fresh") is None


def test_a_patched_validate_key_is_called(cache, monkeypatch):
    """Tests patch single objects."""
    cache.set("key", 1)
    seen = []
    monkeypatch.setattr(cache, "validate_key", seen.append)
    assert cache.get("key") == 1
    assert seen == [":1:key"]


@pytest.mark.parametrize(
    ("params", "apart"),
    [
        ({"KEY_PREFIX": "a"}, True),
        ({"KEY_PREFIX": None}, True),  # Django writes "None:1:key"
        ({"VERSION": 2}, True),
        ({"VERSION": True}, True),
        ({"VERSION": "1"}, False),
        ({"KEY_FUNCTION": f"{HERE}.reversed_key"}, True),
        ({"TIMEOUT": 5}, False),
        ({"OPTIONS": {"SERIALIZER": "pickle"}}, False),
    ],
    ids=str,
)
def test_two_aliases_of_one_server_share_full_keys_only(
    set_caches, redis_url, params, apart
):
    """They see each other's values exactly if the full keys are equal."""
    second = entry(redis_url, **{"VERSION": 1, **params})
    set_caches(default=entry(redis_url, VERSION=1), second=second)
    first, second = trusted(caches["default"]), caches["second"]
    assert engine_of(first) is engine_of(second)
    for write, read in ((first, second), (second, first)):
        for number in range(3):
            write.set("key", number)
            assert write.get("key") == number
            assert read.get("key") == (None if apart else number)
        write.delete("key")
        assert read.get("key") is None
    second.set("key", "s")
    first.set("key", "f")
    eventually(lambda: hits_of(first, lambda: first.get("key")), "L1 has it")
    assert second.get("key") == ("s" if apart else "f")
    assert first.get_many(["key"]) == {"key": "f"}


def test_serializers_of_two_aliases_do_not_read_each_others_entries(
    set_caches, redis_url
):
    """One engine, one L1, one full key; the JSON alias never sees a pickled tuple."""
    set_caches(
        default=entry(redis_url),
        json=entry(redis_url, OPTIONS={"SERIALIZER": "json"}),
    )
    first, json = trusted(caches["default"]), caches["json"]
    json.set("k", {"a": (1, 2)})
    assert [json.get("k"), json.get("k")] == [{"a": [1, 2]}] * 2
    first.set("n", 5)
    assert [first.get("n"), json.get("n"), json.get("n"), first.get("n")] == [5] * 4


@pytest.mark.parametrize(
    "second",
    [
        {"OPTIONS": {"L1_MAX_ENTRIES": 5}},
        {"OPTIONS": {"MAX_ENTRIES": 5}},
        {"MAX_ENTRIES": 5},
        {"max_entries": 5},
        {"OPTIONS": {"BUS_TRUST": 5}},
        {"OPTIONS": {"SOCKET_TIMEOUT": 0.5}},
        {"OPTIONS": {"socket_timeout": 0.5}},
        {"OPTIONS": {"CLIENT_KWARGS": {"client_name": "x"}}},
    ],
    ids=str,
)
def test_differing_engine_options_name_both_aliases(set_caches, redis_url, second):
    """One engine cannot have two sizes: the error says whose, and what."""
    set_caches(default=entry(redis_url), second=entry(redis_url, **second))
    assert caches["default"].get("k") is None
    with pytest.raises(ImproperlyConfigured) as raised:
        _ = caches["second"]
    text = str(raised.value)
    assert "CACHES['second'] and CACHES['default']" in text
    assert any(
        name in text
        for name in ("L1_MAX_ENTRIES", "BUS_TRUST", "SOCKET_TIME", "CLIENT_KWARGS")
    )
    assert redis_url in text
    assert caches["default"].get("k") is None


def test_two_aliases_of_the_same_keys_must_exclude_the_same(set_caches, redis_url):
    """Writes of the one are not published, so they would miss the other's L1."""
    set_caches(
        default=entry(redis_url),
        second=entry(redis_url, OPTIONS={"L1_EXCLUDE": []}),
        third=entry(redis_url, KEY_PREFIX="p", OPTIONS={"L1_EXCLUDE": []}),
    )
    _ = caches["default"]
    with pytest.raises(ImproperlyConfigured) as raised:
        _ = caches["second"]
    assert "CACHES['second'] and CACHES['default']" in str(raised.value)
    assert "L1_EXCLUDE" in str(raised.value)
    assert "KEY_PREFIX" in str(raised.value)
    assert caches["third"].get("throttle_x") is None


def test_the_password_stays_out_of_the_error(set_caches):
    """It ends up in logs."""
    url = "redis://user:geheim@127.0.0.1:1/0"
    set_caches(
        default=entry(url, OPTIONS={"BUS_TRUST": 3}),
        second=entry(url, OPTIONS={"BUS_TRUST": 4}),
    )
    _ = caches["default"]
    with pytest.raises(ImproperlyConfigured) as raised:
        _ = caches["second"]
    assert "geheim" not in str(raised.value)
    assert "user" in str(raised.value)


@pytest.mark.parametrize(
    "spelled",
    [
        lambda url, db: (url, {}),
        lambda url, db: (url.rpartition("/")[0], {"db": db}),
        lambda url, db: (url.rpartition("/")[0], {"db": str(db)}),
        lambda url, db: (url.rpartition("/")[0], {"CLIENT_KWARGS": {"db": db}}),
        lambda url, db: (f"{url.rpartition('/')[0]}?db={db}", {}),
    ],
    ids=["path", "db", "text", "client_kwargs", "query"],
)
def test_a_database_has_one_channel_however_it_is_spelled(
    set_caches, redis_url, spelled
):
    """Two projects may write it differently, and must hear each other."""
    db = int(redis_url.rpartition("/")[2])
    location, options = spelled(redis_url, db)
    set_caches(default=entry(location, OPTIONS=options))
    cache = trusted(caches["default"])
    assert engine_of(cache).location.db == db
    assert engine_of(cache).location.identity == parse_location(redis_url).identity
