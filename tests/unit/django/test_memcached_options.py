"""CACHES entries on memcached://: ours, those of PyMemcacheCache, and mistakes."""

from __future__ import annotations

import logging
import ssl

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from pymemcache.client.base import KeepaliveOpts
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.serde import PickleSerde, compressed_serde, pickle_serde

from cachebridge import config
from tests.rig import engine_of, options_of
from tests.unit.django.support import entry

NOWHERE = "memcached://127.0.0.1:1,127.0.0.1:2"


@pytest.fixture
def patient_sockets():
    """Leave the defaults as they are: this is about them."""


@pytest.fixture
def made(set_caches):
    """Return a function that makes a cache from an entry; nothing is contacted."""

    def make(location=NOWHERE, **params):
        set_caches(default=entry(location, **params))
        return caches["default"]

    return make


@pytest.fixture
def refused(made):
    """Return a function that makes an entry and returns what is said against it."""

    def text(location=NOWHERE, **options):
        with pytest.raises(ImproperlyConfigured) as raised:
            made(location, OPTIONS=options)
        assert "CACHES['default']" in str(raised.value)
        return str(raised.value)

    return text


def test_options_with_a_counterpart_are_mapped(made):
    """Those of pymemcache's HashClient, as Django hands them on."""
    context, keepalive = ssl.create_default_context(), KeepaliveOpts()
    options = engine_of(
        made(
            OPTIONS={
                "max_pool_size": 7,
                "timeout": 3,
                "connect_timeout": 0.25,
                "no_delay": False,
                "tls_context": context,
                "socket_keepalive": keepalive,
                "MAX_ENTRIES": 9,
            }
        )
    ).options
    assert options.max_connections == 7
    assert options.socket_timeout == 3.0
    assert options.socket_connect_timeout == 0.25
    assert options.l1_max_entries == 9
    assert options.client_kwargs == {
        "no_delay": False,
        "tls_context": context,
        "socket_keepalive": keepalive,
    }


def test_behaviors_of_pylibmc_are_mapped(made):
    """Its timeouts are milliseconds and microseconds; 0 is none, so the default."""
    given = {"connect_timeout": 250, "receive_timeout": 3_000_000, "tcp_nodelay": True}
    options = engine_of(made(OPTIONS={"binary": False, "behaviors": given})).options
    assert (options.socket_timeout, options.socket_connect_timeout) == (3.0, 0.25)
    options = engine_of(made(OPTIONS={"behaviors": {"receive_timeout": 0}})).options
    assert options.socket_timeout == 1.0


@pytest.mark.parametrize("none", [None, 0])
def test_no_limit_leaves_the_default(made, none):
    """Here nothing waits for ever."""
    given = dict.fromkeys(("timeout", "connect_timeout", "max_pool_size"), none)
    options = engine_of(made(OPTIONS=given)).options
    assert (options.socket_timeout, options.socket_connect_timeout) == (1.0, 0.5)
    assert options.max_connections is None


@pytest.mark.parametrize(
    ("ignores", "on_error"), [(True, "degrade"), (False, "raise"), (None, "degrade")]
)
def test_ignore_exc_is_mapped(made, ignores, on_error):
    """Without it an outage degrades, as with every location."""
    given = {} if ignores is None else {"ignore_exc": ignores}
    assert options_of(made(OPTIONS=given)).on_error == on_error


HARMLESS = {
    "use_pooling": True,
    "default_noreply": False,
    "allow_unicode_keys": True,
    "encoding": "utf-8",
    "pool_idle_timeout": 60,
    "retry_attempts": 2,
    "retry_timeout": 1,
    "dead_timeout": 60,
    "lock_generator": None,
    "socket_module": None,
    "CULL_FREQUENCY": 3,
    "serde": pickle_serde,
    "hasher": RendezvousHash,
}


@pytest.mark.parametrize(("name", "value"), HARMLESS.items(), ids=HARMLESS)
def test_options_without_meaning_here_are_ignored_with_one_warning(
    made, caplog, monkeypatch, name, value
):
    """One line in the log says so, however many threads make a backend."""
    monkeypatch.setattr(config, "_warned", set())
    caplog.set_level(logging.WARNING, "cachebridge.django")
    for _ in range(3):
        made(OPTIONS={name: value})
        caches.create_connection("default")
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"OPTIONS[{name!r}] has no effect with cachebridge: ")


def test_a_pickle_serde_of_another_protocol_is_as_good(made):
    """What it has written is read; what ours writes it reads."""
    assert made(OPTIONS={"serde": PickleSerde(pickle_version=2)})


REFUSED = {
    "serde": (compressed_serde, "what compressed_serde has written is read"),
    "hasher": (object, "RendezvousHash"),
    "key_prefix": (b"p", "KEY_FUNCTION"),
    "serializer": (print, "'pickle', 'json', 'msgpack'"),
    "deserializer": (print, "SERIALIZER"),
    "username": ("u", "SASL"),
    "password": ("p", "SASL"),
    "binary": (True, "text protocol"),
    "behaviors": ({"ketama": True}, "RendezvousHash"),
    "db": (1, "is for Redis"),
    "client_name": ("shop", "is for Redis"),
    "ssl_cert_reqs": (None, "is for Redis"),
    "CONNECTION_POOL_KWARGS": ({}, "is for Redis"),
    "CLIENT_CLASS": ("django_redis.client.DefaultClient", "is for Redis"),
    "PARSER_CLASS": ("x", "is for Redis"),
    "TIMEOUT": (5, "beside OPTIONS"),
    "KEY_PREFIX": ("p", "beside OPTIONS"),
    "VERSION": (2, "beside OPTIONS"),
    "max_pool_sise": (5, "Did you mean 'max_pool_size'"),
    "CLIENT_KWARGS": ({"client_name": "x"}, "no_delay, socket_keepalive, tls_context"),
    "tls_context": (True, "ssl.SSLContext"),
    "socket_keepalive": (True, "KeepaliveOpts"),
    "no_delay": (1, "True or False"),
    "max_pool_size": (-1, "MAX_CONNECTIONS must be an integer >= 1"),
    "timeout": (-1, "SOCKET_TIMEOUT must be a number of seconds > 0"),
    "BUS_LOCATION": ("memcached://127.0.0.1:3", "must be the URL of a Redis server"),
}


@pytest.mark.parametrize(("name", "case"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_is_refused_with_what_to_do_instead(refused, name, case):
    """Each error names the option."""
    value, instead = case
    text = refused(**{name: value})
    assert name in text or instead.startswith(("MAX", "SOCKET"))
    assert instead in text


@pytest.mark.parametrize(
    "name", ["max_pool_size", "tls_context", "no_delay", "use_pooling", "serde"]
)
def test_pymemcaches_options_are_refused_for_redis(refused, name):
    """The error says where they belong."""
    text = refused("redis://127.0.0.1:1/0", **{name: 1})
    assert f"OPTIONS[{name!r}] is pymemcache's: it is for memcached://" in text


LOCATIONS = {
    "bare": ("127.0.0.1:11211", "For Memcached write memcached://127.0.0.1:11211"),
    "name": ("memcached:11211", "For Memcached write memcached://memcached:11211"),
    "several": ("a:1;b:2", "write memcached://a:1,b:2"),
    "socket": (
        "unix:/tmp/memcached.sock",
        "write memcached://unix:/tmp/memcached.sock",
    ),
    "any port": ("10.0.0.1:6379", "redis://10.0.0.1:6379/0 or, for Memcached, memcach"),
    "list": (["10.0.0.1:11211", "b:11212"], "memcached://10.0.0.1:11211,b:11212"),
    "list of URLs": (["redis://a", "redis://b"], "the URL of the primary alone"),
    "semicolon": ("memcached://a;b", "memcached://host:11211,host2:11211"),
    "database": ("memcached://a:11211/0", "knows no databases"),
    "user": ("memcached://u:geheim@a:11211", "knows no databases, users"),
    "twice": ("memcached://a:11211,a", "names a server twice"),
}


@pytest.mark.parametrize(("location", "said"), LOCATIONS.values(), ids=LOCATIONS)
def test_a_location_as_other_backends_take_it_says_what_to_write(
    refused, location, said
):
    """Django's own backends take lists and bare servers."""
    text = refused(location)
    assert said in text
    assert "geheim" not in text


def test_every_behavior_of_pylibmc_has_a_row(made, refused):
    """An unknown one is refused, with the dict that it stands in."""
    assert made(OPTIONS={"behaviors": {"_poll_timeout": 100, "_sort_hosts": 1}})
    said = refused(behaviors={"tcp_nodelai": True})
    assert "behaviors['tcp_nodelai'] is unknown" in said
    assert "Did you mean 'tcp_nodelay'?" in said
