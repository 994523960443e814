"""Sentinel: URLs that name sentinels, and which of their answers counts."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import pytest
from redis.connection import SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from cachebridge.config import EngineOptions
from cachebridge.errors import ConfigError
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.location import parse_location
from cachebridge.l2.redis.sentinels import Sentinels
from cachebridge.testing.ports import free_port
from cachebridge.testing.processes import started
from cachebridge.testing.sentinels import SentinelServer
from cachebridge.testing.servers import find_redis_server
from tests.rig import eventually
from tests.unit.l2.conftest import shown

SECRET = "hunter2"
HOST = "127.0.0.1"


def sentinels(url, **options):
    """Make what asks the sentinels of a URL."""
    return Sentinels(parse_location(url), EngineOptions(**options))


@pytest.mark.parametrize(
    ("url", "servers", "master", "db"),
    [
        ("redis+sentinel://a/m", [("a", 26379)], "m", 0),
        ("redis+sentinel://a:1,b:2/m/3", [("a", 1), ("b", 2)], "m", 3),
        ("redis+sentinel://u:p@a,b/m/3", [("a", 26379), ("b", 26379)], "m", 3),
        ("valkey+sentinel://[::1]:1, b/m%2F1/", [("::1", 1), ("b", 26379)], "m/1", 0),
        ("rediss+sentinel://:p@a/m?db=4", [("a", 26379)], "m", 4),
    ],
)
def test_urls(url, servers, master, db):
    """Sentinels, the master's name and the database stand in one URL."""
    location = parse_location(url)
    assert location.is_redis
    assert location.db == db
    assert list(location.sentinel.servers) == servers
    assert location.sentinel.master == master


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+sentinel://a:1,b:2", "lacks the name of the master"),
        ("redis+sentinel://a:1,b:2/", "lacks the name of the master"),
        ("redis+sentinel:///m/0", "lacks sentinels"),
        ("redis+sentinel://a,,b/m", "lacks sentinels"),
        ("redis+sentinel://a:0/m", "lacks sentinels"),
        ("redis+sentinel://a:70000/m", "lacks sentinels"),
        ("redis+sentinel://a:x/m", "lacks sentinels"),
        ("redis+sentinel://u@v:p@a/m", "percent-encoded"),
        ("redis+sentinel://a,a:26379/m", "names a sentinel twice"),
        ("redis+sentinel://a/m/one", "'one' is not a number"),
        ("redis+sentinel://a/m/0/1", "'0/1' is not a number"),
        ("unix+sentinel://a/m", "must begin with"),
        ("redis+sentinels://a/m", "must begin with"),
    ],
)
def test_unusable_urls(url, reason):
    """The error names what is missing or wrong."""
    with pytest.raises(ConfigError, match="LOCATION") as raised:
        parse_location(url)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("query", "kwargs", "name"),
    [
        ("?no_such=1", {}, "no_such"),
        ("?sentinel_no_such=1", {}, "no_such"),
        ("?sentinel_db=x", {}, "db"),
        ("?sentinel_encoding=latin-1", {}, "encoding"),
        ("", {"no_such": 1}, "no_such"),
        ("", {"decode_responses": True}, "decode_responses"),
    ],
)
def test_unusable_arguments(query, kwargs, name):
    """An argument for the master or the sentinels that does not exist is named."""
    options = EngineOptions(sentinel_kwargs=kwargs)
    location = parse_location(f"redis+sentinel://a/m{query}")
    with pytest.raises(ConfigError, match=name):
        checked(location, options)


def checked(location, options):
    connection_factory(location, options)
    Sentinels(location, options)


@pytest.mark.parametrize(
    "url",
    [
        f"redis+sentinel://u:{SECRET}@a,b/m/0?sentinel_password=s{SECRET}",
        f"redis+sentinel://u:{SECRET}@a,b/m/zero",
        f"redis+sentinel://u:{SECRET}@a,b",
        f"redis+sentinel://u:{SECRET}/@a,b/m",
        f"redis+sentinel://u:{SECRET}@{SECRET}@a,b/m",
        f"redis+sentinel://a,b/m?sentinel_password={SECRET}&sentinel_db=x",
        f"redis+sentinel://u:{SECRET}",
    ],
)
def test_secrets_are_kept(url):
    """No label, repr or error holds a password of the master or the sentinels."""
    try:
        location = parse_location(url)
        seen = location.label + repr(location)
        connection_factory(location, EngineOptions())
        Sentinels(location, EngineOptions())
    except ConfigError as exc:
        seen = shown(exc)
    assert SECRET not in seen


def test_identity_is_the_set_of_sentinels_with_name_database_and_user():
    """The order of the sentinels, their logins and the product make no difference."""

    def identity(url):
        return parse_location(url).identity

    same = [
        "redis+sentinel://a,b:1/m",
        "redis+sentinel://b:1,a:26379/m/0?sentinel_password=x",
        "valkey+sentinel://a,b:1/m",
    ]
    assert len({identity(each) for each in same}) == 1
    different = [
        "redis+sentinel://a,b:1/m",
        "redis+sentinel://a,b:2/m",
        "redis+sentinel://a,b:1/n",
        "redis+sentinel://a,b:1/m/1",
        "redis+sentinel://u@a,b:1/m",
        "redis+sentinel://u:p@a,b:1/m",
        "rediss+sentinel://a,b:1/m",
        "redis://a",
    ]
    assert len({identity(each) for each in different}) == len(different)


def connection(url, **options):
    """Return a connection to the first sentinel, not open yet."""
    return sentinels(url, **options)._order[0]._make()


def test_arguments_of_the_sentinels():
    """Timeouts are the options' own; a login is never the master's."""
    options = {"socket_timeout": 3.0, "socket_connect_timeout": 4.0}
    url = "redis+sentinel://u:p@a/m/5?sentinel_username=s&sentinel_password=%2Ft"
    made = connection(url, **options)
    assert (made.socket_timeout, made.socket_connect_timeout) == (3.0, 4.0)
    assert (made.username, made.password, made.db) == ("s", "/t", 0)
    kwargs = {"socket_timeout": 1.5, "socket_connect_timeout": None, "password": "q"}
    made = connection(url, **options, sentinel_kwargs=kwargs)
    assert (made.socket_timeout, made.socket_connect_timeout) == (1.5, 4.0)
    assert (made.username, made.password) == ("s", "q")


@pytest.mark.parametrize(
    ("url", "kwargs", "has_tls"),
    [
        ("redis+sentinel://a/m", {}, False),
        ("rediss+sentinel://a/m", {}, True),
        ("valkeys+sentinel://a/m", {}, True),
        ("rediss+sentinel://a/m?sentinel_ssl=false&ssl_ca_certs=x", {}, False),
        ("rediss+sentinel://a/m", {"ssl": False}, False),
        ("redis+sentinel://a/m?sentinel_ssl=true", {}, True),
    ],
)
def test_tls_to_the_sentinels(url, kwargs, has_tls):
    """It is as for the master unless the sentinels' differ, and checks host names."""
    made = connection(url, sentinel_kwargs=kwargs)
    assert isinstance(made, SSLConnection) is has_tls
    assert getattr(made, "check_hostname", True)


def test_certificates_are_those_of_the_master():
    """Unless the sentinels have others."""
    url = "rediss+sentinel://a/m?ssl_ca_certs=/ca.pem"
    assert connection(url).ca_certs == "/ca.pem"
    assert connection(f"{url}&sentinel_ssl_ca_certs=/b.pem").ca_certs == "/b.pem"


# -- discovery: real sentinels, which watch addresses where nothing needs to run -------


@pytest.fixture
def start_sentinel(shared_server):
    """Start sentinels that know nothing of each other."""
    with ExitStack() as running:

        def start(master_port, *settings, epoch=0, down_after_ms=600_000):
            lines = [
                f"sentinel monitor m {HOST} {master_port} 1",
                f"sentinel down-after-milliseconds m {down_after_ms}",
                f"sentinel config-epoch m {epoch}",
                *settings,
            ]
            server = SentinelServer(find_redis_server(), lines)
            return running.enter_context(started(server))

        yield start


def url_of(*ports, name="m", query=""):
    hosts = ",".join(f"{HOST}:{port}" for port in ports)
    return f"redis+sentinel://{hosts}/{name}{query}"


def test_a_sentinel_that_is_down_is_asked_last(start_sentinel):
    """The next one answers, and is asked first from then on."""
    sentinel = start_sentinel(1111)
    asked = sentinels(url_of(free_port(), free_port(), sentinel.port))
    assert asked.master() == (HOST, 1111)
    assert asked._order[0].name == f"{HOST}:{sentinel.port}"
    assert len(asked._order) == 3


def test_a_sentinel_that_is_silent_costs_its_timeout_once(start_sentinel):
    """A paused one accepts connections and says nothing: the next one is asked."""
    silent, other = start_sentinel(1111), start_sentinel(1111)
    asked = sentinels(url_of(silent.port, other.port), socket_timeout=0.5)
    silent.pause()
    assert asked.master() == (HOST, 1111)
    silent.resume()


def test_the_latest_failover_counts(start_sentinel):
    """A sentinel that has not heard of it is not believed, while another has."""
    stale, informed = start_sentinel(1111, epoch=1), start_sentinel(2222, epoch=2)
    asked = sentinels(url_of(stale.port, informed.port))
    assert asked.master() == (HOST, 1111)  # the first one is enough to connect
    assert asked.moved() == ((HOST, 1111),)
    assert asked.master() == (HOST, 2222)
    assert asked.moved() == ()
    # No other sentinel is left: its answer counts, old as it is.
    informed.kill()
    assert asked.master() == (HOST, 1111)
    assert asked.moved() == ((HOST, 2222),)


def test_no_master_is_named(start_sentinel):
    """Sentinels that do not know the name, or find it down: the error says so."""
    down = start_sentinel(free_port(), down_after_ms=1)
    asked = sentinels(url_of(down.port))
    eventually(lambda: "is down" in refusal(asked))
    assert "No such master" in refusal(sentinels(url_of(down.port, name="other")))
    no_sentinel = refusal(sentinels(url_of(port := free_port())))
    assert f"{HOST}:{port}" in no_sentinel


def refusal(asked):
    try:
        asked.master()
    except RedisConnectionError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize(
    "query", ["?sentinel_password=right", "?sentinel_username=default", ""]
)
def test_a_password_of_their_own(start_sentinel, query, caplog):
    """Without it they refuse, and no text shows it."""
    caplog.set_level(logging.DEBUG)
    sentinel = start_sentinel(1111, "requirepass right")
    asked = sentinels(url_of(sentinel.port, query=query))
    said = refusal(asked)
    assert bool(said) is ("password" not in query)
    assert "right" not in said + caplog.text
