"""LOCATION: what it means, what is wrong with it, and that it keeps its secrets."""

from __future__ import annotations

import traceback

import pytest
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from cachebridge.config import EngineOptions
from cachebridge.errors import ConfigError
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.location import parse_location
from cachebridge.l2.resolving import resolve
from tests.unit.l2.conftest import shown

SECRET = "hunter2"


def identity(location):
    return parse_location(location).identity


@pytest.mark.parametrize("nothing", [None, "", [], ()])
def test_missing(nothing):
    """A forgotten LOCATION raises and offers ``memory://``; it is no default."""
    with pytest.raises(ConfigError, match=r"LOCATION is missing.*memory://"):
        parse_location(nothing)


@pytest.mark.parametrize(
    "location",
    [
        ["redis://a", "redis://b"],
        ("redis://a",),
        {"host": "a"},
        7,
        b"redis://a",
    ],
)
def test_no_text(location):
    """A list of servers, or anything that is no text, raises and says what is valid."""
    with pytest.raises(ConfigError, match=r"LOCATION must be one URL \(redis://"):
        parse_location(location)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("localhost:6379", "must begin with redis://, rediss://, unix://, memory://"),
        ("http://localhost", "must begin with"),
        ("REDISS", "must begin with"),
        ("amqp://localhost", "must begin with"),
        ("reddis://localhost", "Did you mean 'redis'?"),
        ("memcached:localhost", "must begin with"),
        ("localhost:11211", "For Memcached write memcached://localhost:11211"),
        ("memcached://", "is no server"),
        ("memcached://a;b", "'a;b' is no server"),
        ("redis://a,redis://b", "must be one URL, not a list"),
        ("redis://a;b", "not a list"),
        ("redis://a b", "not a list"),
        ("redis://a:port/0", "not usable"),
        ("redis://a:99999999/0", "not usable"),
        ("redis://[a/0", "not usable"),
        ("redis://a?db=x", "not usable"),
        ("redis://a/zero", "'zero' is not a number"),
        ("redis://a/-1", "'-1' is not a number"),
        ("unix://", "path"),
        ("redis://a?slots=some", "'slots' may be 'enforced'"),
        ("redis://a/1?slots=enforced", "database 0"),
        ("unix:///a?slots=enforced", "no path of a socket"),
    ],
)
def test_unusable(location, reason):
    """A bad URL raises at construction, naming LOCATION and what is wrong."""
    with pytest.raises(ConfigError, match="LOCATION") as raised:
        parse_location(location)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("location", "db"),
    [
        ("redis://a", 0),
        ("redis://a/", 0),
        ("redis://a/3", 3),
        ("redis://a/1?db=3", 3),
        ("rediss://a/3", 3),
        ("unix:///tmp/s.sock", 0),
        ("unix:///tmp/s.sock?db=3", 3),
    ],
)
def test_database(location, db):
    """The number names the bus's channel too, wherever the URL has it."""
    assert parse_location(location).db == db
    made = connection_factory(parse_location(location), EngineOptions())()
    assert made.db == db


@pytest.mark.parametrize("location", ["redis://a/1", "redis://a?db=1", "redis://a"])
def test_client_kwargs_belong_to_the_identity(location):
    """A database or user named in CLIENT_KWARGS is the one that the engine is of."""
    kwargs = {"db": 3, "username": "u", "password": "p"}
    parsed = parse_location(location, kwargs)
    assert parsed.db == 3
    assert parsed.identity == identity("redis://u:p@a/3")
    assert parse_location(location, {"db": "4"}).db == 4
    with pytest.raises(ConfigError, match="database 'four' is not a number"):
        parse_location(location, {"db": "four"})


def test_identity_is_server_database_and_user():
    """Equal servers share one engine; another database, user or password does not."""
    assert identity("redis://a") == identity("redis://a:6379/0")
    assert identity("redis://u:p@a/1") == identity("valkey://u:p@a/1")
    assert identity("rediss://a") == identity("valkeys://a")
    different = [
        "redis://a",
        "redis://b",
        "redis://a:6380",
        "redis://a/1",
        "rediss://a",
        "redis://user@a",
        "redis://user:x@a",
        "redis://user:y@a",
        "unix:///a",
        "unix:///b",
        "unix:///a?db=1",
        "memory://",
        "memory://a",
    ]
    assert len({identity(each) for each in different}) == len(different)


@pytest.mark.parametrize(
    "location",
    [
        f"redis://user:{SECRET}@host/0",
        f"redis://:{SECRET}@host/0",
        f"redis://:{SECRET}@host:6379,redis://:{SECRET}@other:6379",
        f"rediss://:{SECRET}%40@host/0?ssl_cert_reqs=none",
        f"redis://host/0?password={SECRET}",
        f"redis://host/0?db=1&password={SECRET}&client_name=x",
        f"unix://user:{SECRET}@/tmp/s.sock",
        f"http://user:{SECRET}@host",
        f"redis://user:{SECRET}@host/zero",
        f"redis://user:{SECRET}@host:port/0",
        f"redis://user:{SECRET}/x@host:6379/0",
        f"redis://user:{SECRET}#@host:6379/0",
        f"redis://user:{SECRET}?@host:6379/0",
        f"redis://user:{SECRET}@host?socket_timeout=never",
        f"redis://user:{SECRET}@host?protocol=3",
        f"redis://user:{SECRET}@host?no_such_argument=3",
    ],
)
def test_secrets_are_kept(location):
    """No label, repr, error or chained error holds a password."""
    try:
        parsed = parse_location(location)
        seen = parsed.label + repr(parsed)
        connection_factory(parsed, EngineOptions())
    except ConfigError as exc:
        seen = shown(exc)
    assert SECRET not in seen


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("rediss://a", SSLConnection),
        ("valkey://a", Connection),
        ("valkeys://a", SSLConnection),
        ("unix:///tmp/s.sock", UnixDomainSocketConnection),
    ],
)
def test_connection_class(location, kind):
    """The scheme chooses the connection."""
    made = connection_factory(parse_location(location), EngineOptions())()
    assert isinstance(made, kind)


@pytest.mark.parametrize("kind", ["redis.Connection", Connection(), None])
def test_a_connection_class_that_is_none(kind):
    """Such as a dotted path: the error names the argument."""
    parsed = parse_location("redis://a")
    options = EngineOptions(client_kwargs={"connection_class": kind})
    with pytest.raises(ConfigError, match="connection_class must be a class"):
        connection_factory(parsed, options)


def test_own_retry_rules():
    """Timeouts are the options'; redis-py retries nothing and speaks protocol 2."""
    options = EngineOptions(socket_timeout=3.0, socket_connect_timeout=4.0)
    made = connection_factory(parse_location("redis://a"), options)()
    assert (made.socket_timeout, made.socket_connect_timeout) == (3.0, 4.0)
    assert made.retry.get_retries() == 0
    assert int(made.protocol) == 2
    assert made.health_check_interval == 0


def resolved(url, **options):
    """Return what a URL and options amount to."""
    location, made = resolve(url, EngineOptions(**options))
    connection_factory(location, made)()
    return made


OURS = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 4.0,
    "max_connections": 20,
}


@pytest.mark.parametrize(("name", "value"), OURS.items())
def test_options_of_ours_as_arguments_of_redis_py(name, value):
    """The query of a URL overrides options, as in redis-py; CLIENT_KWARGS both."""
    assert getattr(resolved(f"redis://a?{name}={value}"), name) == value
    assert getattr(resolved(f"redis://a?{name}={value}", **{name: 1}), name) == value
    kwargs = {"client_kwargs": {name: 7}}
    made = resolved(f"redis://a?{name}={value}", **kwargs)
    assert getattr(made, name) == 7
    assert made.client_kwargs == {}


@pytest.mark.parametrize(
    "argument",
    [
        *("health_check_interval=30", "retry_on_timeout=True", "protocol=3"),
        *("timeout=20", "retry_on_error=x", "max_connections=0"),
        *("decode_responses=False", "encoding=utf-8", "ssl=false"),
    ],
)
def test_arguments_without_effect(argument):
    """What other clients take in a URL does not keep a site from starting."""
    assert resolved(f"redis://a?{argument}") == EngineOptions()


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("decode_responses=True", "values are bytes"),
        ("encoding=latin-1", "keys are UTF-8"),
        ("ssl=true", "rediss://"),
        ("unix_socket_path=/x", "unix:///path"),
    ],
)
def test_refused_arguments(argument, instead):
    """What would change the stored bytes is refused, in a URL and in CLIENT_KWARGS."""
    name, _, value = argument.partition("=")
    for make in (
        lambda: resolved(f"redis://a?{argument}"),
        lambda: resolved("redis://a", client_kwargs={name: value}),
    ):
        with pytest.raises(ConfigError, match=f"{name}.*{instead}"):
            make()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://a?socket_timeout=-1", "SOCKET_TIMEOUT must be a number"),
        ("redis://a?socket_timeout=soon", "'socket_timeout' in its query"),
        ("rediss://a?ssl_cert_reqs=bogus", "bogus"),
        ("redis://a?client_nam=x", "Did you mean 'client_name'"),
        ("redis://a?ssl_cert_reqs=none", "for TLS: rediss://"),
        ("unix:///a?socket_keepalive=1", "UnixDomainSocketConnection"),
    ],
)
def test_unusable_arguments(url, said):
    """Each is a ConfigError at construction that names the argument."""
    with pytest.raises(ConfigError) as raised:
        resolved(url)
    assert said in str(raised.value)
    assert "LOCATION" in str(raised.value)


def test_unknown_argument():
    """An argument that redis-py refuses raises at construction, naming it."""
    options = EngineOptions(client_kwargs={"no_such_argument": 1})
    with pytest.raises(ConfigError, match="no_such_argument"):
        connection_factory(parse_location("redis://a"), options)


# -- Memcached ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("memcached://a", ["a:11211"]),
        ("memcached://a:1,b:2/", ["a:1", "b:2"]),
        ("memcached://[::1]:1, 10.0.0.1", ["::1:1", "10.0.0.1:11211"]),
        ("memcached://unix:/run/m.sock,b", ["/run/m.sock", "b:11211"]),
    ],
)
def test_locations(url, names):
    """Servers stand side by side in one URL; their order makes no difference."""
    location = parse_location(url)
    assert [server.name for server in location.servers] == names
    assert location.identity == ("memcached", *sorted(names))


@pytest.mark.parametrize(
    "url",
    [
        "memcached://",
        "memcached://,",
        "memcached://a,,b",
        "memcached://a:0",
        "memcached://a:70000",
        f"memcached://a:{'1' * 5000}",
        "memcached://a:x",
        "memcached://user:secret@a",
        "memcached://a/1",
        "memcached://a?x=1",
        "memcached://a b",
        "memcached://a,a:11211",
        ["memcached://a"],
        "a:11211",
    ],
)
def test_unusable_locations(url):
    """What is no server is named, without its password."""
    with pytest.raises(ConfigError) as raised:
        parse_location(url)
    assert "secret" not in str(raised.value)
    assert "LOCATION" in str(raised.value)


@pytest.mark.parametrize(
    "url", ["redis://:s3cret/0", "redis://user:s3cret", "rediss://user:s3/cret?x=1"]
)
def test_a_forgotten_host_shows_no_password(url):
    """Without its ``@host`` a URL still begins with a user and a password."""
    with pytest.raises(ConfigError) as raised:
        parse_location(url)
    assert "s3" not in "".join(traceback.format_exception(raised.value))


# -- clusters --------------------------------------------------------------------------


def test_the_nodes_of_a_cluster():
    """Some of them, in any order; ports, IPv6, logins and TLS as for one server."""
    found = parse_location(
        "rediss+cluster://me:s%40crt@a,b:7000,[::1]:7001/0?ssl_ca_certs=x"
    )
    assert found.cluster == (("a", 6379), ("b", 7000), ("::1", 7001))
    assert found.scheme == "rediss"
    assert found.db == 0
    assert found.connection_kwargs["username"] == "me"
    assert found.connection_kwargs["password"] == "s@crt"
    assert found.connection_kwargs["ssl_ca_certs"] == "x"
    assert "crt" not in repr(found)
    assert identity("redis+cluster://a:6379,b") == identity("valkey+cluster://b,a/0")
    assert identity("redis+cluster://a,b") != identity("redis+cluster://a")
    assert identity("redis+cluster://a") != identity("redis://a")
    assert identity("redis+cluster://u@a") != identity("redis+cluster://a")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("redis+cluster://", "lacks nodes"),
        ("redis+cluster:///0", "lacks nodes"),
        ("redis+cluster://a,,b", "lacks nodes"),
        ("redis+cluster://a:port", "lacks nodes"),
        ("redis+cluster://a:99999", "lacks nodes"),
        ("redis+cluster://a,a:6379", "names a node twice"),
        ("redis+cluster://a,b/1", "database 0 alone"),
        ("redis+cluster://a?db=2", "database 0 alone"),
        ("unix+cluster://a", "must begin with"),
        ("redis+clusters://a", "must begin with"),
    ],
)
def test_no_cluster(location, reason):
    """A wrong URL raises, and says what to write."""
    with pytest.raises(ConfigError, match="LOCATION") as raised:
        parse_location(location)
    assert reason in str(raised.value)


def test_a_password_of_a_cluster_stays_secret():
    """Also if the URL is wrong because of it."""
    with pytest.raises(ConfigError) as raised:
        parse_location(f"redis+cluster://user:{SECRET}@x@a,b:port")
    assert SECRET not in shown(raised.value)
