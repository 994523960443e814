"""``rediss://`` with a certificate authority of the test's own."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from contextlib import ExitStack
from itertools import count

import pytest
import redis

from cachebridge.commands.facts import facts_about
from cachebridge.config import EngineOptions
from cachebridge.errors import ConfigError, L2Error
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.location import Address, parse_location
from cachebridge.l2.memcached.link import open_link
from cachebridge.testing import ServerStartError, redis_cluster, redis_server
from cachebridge.testing.asking import ask
from cachebridge.testing.ports import free_port
from cachebridge.testing.processes import started
from cachebridge.testing.sentinels import SentinelServer
from cachebridge.testing.servers import find_redis_server
from tests.clusters import key_at
from tests.hostile import scripted
from tests.rig import (
    PATIENT,
    engine_of,
    eventually,
    listening,
    lone_cache,
    receiver_of,
)
from tests.unit.l2.conftest import open_store
from tests.unit.l2.test_contract import InTasks, RedisContract

if shutil.which("openssl") is None:
    pytest.skip("no openssl to make certificates with", allow_module_level=True)


def openssl(directory, *words):
    subprocess.run(
        ["openssl", *words],
        cwd=directory,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Make a certificate authority, and a server certificate for the loopback."""
    directory = tmp_path_factory.mktemp("tls")
    # Python 3.13 and later verify strictly: they want to know whose keys these are.
    (directory / "extensions").write_text(
        "subjectAltName=IP:127.0.0.1\n"
        "basicConstraints=CA:FALSE\n"
        "subjectKeyIdentifier=hash\n"
        "authorityKeyIdentifier=keyid\n"
    )
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        directory, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt",
        "-subj", "/CN=test authority", "-days", "2",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    openssl(
        directory, "req", *new, "-keyout", "server.key", "-out", "server.csr",
        "-subj", "/CN=127.0.0.1",
    )  # fmt: skip
    text = (directory / "extensions").read_text()
    (directory / "of-another").write_text(text.replace("IP:127.0.0.1", "DNS:evil.test"))
    for name, extensions, days in (
        ("server", "extensions", "2"),
        ("other", "of-another", "2"),
        ("expired", "extensions", "-1"),
    ):
        openssl(
            directory, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey",
            "ca.key", "-CAcreateserial", "-out", f"{name}.crt", "-days", days,
            "-extfile", extensions,
        )  # fmt: skip
    return directory


@pytest.fixture(scope="module")
def tls_server(shared_server, certificates):
    """Start a server that speaks TLS on a second port."""
    port = free_port()
    words = {
        "tls-port": port,
        "tls-cert-file": certificates / "server.crt",
        "tls-key-file": certificates / "server.key",
        "tls-ca-cert-file": certificates / "ca.crt",
        "tls-auth-clients": "no",
        "databases": 1000,
    }
    args = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    try:
        server = redis_server(args=args)
    except ServerStartError as error:
        if "Bad directive" in str(error):
            pytest.skip("this server was built without TLS")
        raise
    with server:
        server.tls_port = port
        yield server


_databases = count()


@pytest.fixture
def tls_db():
    return next(_databases)


@pytest.fixture
def tls_url(tls_server, tls_db, certificates):
    authority = certificates / "ca.crt"
    return f"rediss://127.0.0.1:{tls_server.tls_port}/{tls_db}?ssl_ca_certs={authority}"


class TestTls(RedisContract):
    """The same contract through TLS; the spy reads along without it."""

    @pytest.fixture
    def url(self, tls_url):
        return tls_url

    @pytest.fixture
    def watched(self, tls_server, tls_db):
        return f"redis://127.0.0.1:{tls_server.port}/{tls_db}"


class TestTlsInTasks(InTasks, TestTls):
    """The same, called by tasks."""


def test_connection_is_kept(tls_server, tls_url):
    """What TLS itself sends after the handshake does not make a connection stale."""
    store = open_store(tls_url)
    with redis.Redis.from_url(tls_server.url) as admin:
        before = admin.info("stats")["total_connections_received"]
        for number in range(20):
            store.store([(str(number), b"1")], None, None)
            assert store.get(str(number)) == (b"1", -1)
        assert admin.info("stats")["total_connections_received"] == before + 1
    store.close()


def test_stranger_is_refused(tls_server, tls_db):
    """A certificate of an unknown authority is an L2Error that says so."""
    store = open_store(f"rediss://127.0.0.1:{tls_server.tls_port}/{tls_db}")
    with pytest.raises(L2Error, match="certificate verify failed") as raised:
        store.get("k")
    assert isinstance(raised.value.__cause__, redis.ConnectionError)
    assert isinstance(raised.value.__cause__.__cause__, (ssl.SSLError, type(None)))


def test_plain_text_to_the_tls_port(tls_server, tls_db):
    """``redis://`` on a TLS port fails like any outage."""
    store = open_store(f"redis://127.0.0.1:{tls_server.tls_port}/{tls_db}")
    with pytest.raises(L2Error):
        store.get("k")


def ports_shown(port, authority):
    """Return the ports of the map that a node shows to a client over TLS."""
    with redis.Redis(
        host="127.0.0.1", port=port, ssl=True, ssl_ca_certs=str(authority)
    ) as client:
        shown = client.execute_command("CLUSTER", "SLOTS")
        return {port for _first, _last, (_host, port, *_rest) in shown}


@pytest.fixture
def tls_cluster(tls_server, certificates):
    """Start three masters; yield them, their ports for TLS, and the URL."""
    with redis_cluster() as made:
        ports = {node: free_port() for node in made.masters()}
        for node, port in ports.items():
            for name, value in {
                "tls-cert-file": certificates / "server.crt",
                "tls-key-file": certificates / "server.key",
                "tls-ca-cert-file": certificates / "ca.crt",
                "tls-auth-clients": "no",
                "tls-port": port,
                "tls-cluster": "yes",  # so that nodes tell each other of the ports
                "cluster-announce-bus-port": node.bus_port,
                "cluster-announce-port": node.port,
                "cluster-announce-tls-port": port,
            }.items():
                ask(node, "CONFIG SET", name, str(value))
        authority, expected = certificates / "ca.crt", set(ports.values())
        for port in expected:
            eventually(lambda port=port: ports_shown(port, authority) == expected)
        url = ",".join(f"127.0.0.1:{port}" for port in ports.values())
        authority = certificates / "ca.crt"
        yield (
            made,
            set(ports.values()),
            f"rediss+cluster://{url}?ssl_ca_certs={authority}",
        )


def test_a_cluster_through_tls(tls_cluster):
    """Every node that its map names is asked through TLS, and so are the sessions."""
    cluster, ports, url = tls_cluster
    one, two = listening(lone_cache(url)), listening(lone_cache(url))
    keys = [key_at(node, "tls") for node in cluster.masters()]
    for key in keys:
        one.set(key, "old")
        assert two.get(key) == "old"
    one.set_many(dict.fromkeys(keys, "new"))
    for key in keys:
        eventually(lambda key=key: two.get(key) == "new")
    assert two.stats().trusted
    subscribed = {
        client["laddr"]
        for node in cluster.masters()
        for client in ask(node, "CLIENT LIST")
        if client["sub"] != "0"
    }
    assert subscribed == {f"127.0.0.1:{port}" for port in ports}


def test_bus_through_tls(tls_server, tls_url):
    """The listener's connection is encrypted as well, and invalidations arrive."""
    one, two = listening(lone_cache(tls_url)), listening(lone_cache(tls_url))
    one.set("k", "old")
    assert two.get("k") == "old"
    one.set("k", "new")
    eventually(lambda: two.get("k") == "new")
    with redis.Redis.from_url(tls_server.url) as admin:
        subscribers = [c for c in admin.client_list() if int(c["sub"])]
    assert {c["laddr"] for c in subscribers} == {f"127.0.0.1:{tls_server.tls_port}"}


# -- who the server is ---------------------------------------------------------------


@pytest.fixture
def showing(tls_server, certificates):
    """Return a function that gives the server another certificate, for this test."""

    def show(name):
        with redis.Redis.from_url(tls_server.url) as admin:
            admin.config_set("tls-cert-file", str(certificates / f"{name}.crt"))

    yield show
    show("server")


@pytest.mark.parametrize(
    ("name", "reason"), [("other", "mismatch"), ("expired", "expired")]
)
@pytest.mark.parametrize("side", ["threads", "tasks"])
def test_a_certificate_that_proves_nothing(showing, tls_url, name, reason, side):
    """That of another host, or one whose time is over, is refused: an L2Error."""
    showing(name)
    store = open_store(tls_url, side)
    with pytest.raises(L2Error, match=reason):
        store.get("k")


@pytest.mark.parametrize("name", ["other", "expired"])
def test_the_bus_asks_too(showing, tls_url, name):
    """The listener's connection is refused, and health says why."""
    showing(name)
    cache = lone_cache(tls_url)
    engine_of(cache).listening.start()
    eventually(lambda: "certificate verify failed" in receiver_of(cache).problem)
    assert not cache.stats().trusted


@pytest.mark.parametrize("name", ["other", "expired"])
def test_the_checks_ask_too(showing, tls_url, name):
    """Those of a deployment trust no stranger with the password either."""
    showing(name)
    facts = facts_about(engine_of(lone_cache(tls_url)))
    assert "certificate verify failed" in facts.failure


def test_what_is_switched_off(showing, tls_url):
    """Both checks can be, by name alone; each says what it still checks."""
    showing("other")
    open_store(f"{tls_url}&ssl_check_hostname=false").get("k")
    showing("expired")
    with pytest.raises(L2Error, match="expired"):
        open_store(f"{tls_url}&ssl_check_hostname=false").get("k")
    open_store(f"{tls_url}&ssl_cert_reqs=none").get("k")


@pytest.mark.parametrize(
    ("kwargs", "checks"),
    [
        ({}, True),
        ({"ssl_check_hostname": "no"}, False),
        ({"ssl_check_hostname": False}, False),
        ({"ssl_check_hostname": "True"}, True),
        ({"ssl_cert_reqs": "none"}, False),
        ({"ssl_cert_reqs": None, "ssl_check_hostname": True}, False),
        ({"ssl_cert_reqs": ssl.CERT_NONE}, False),
        ({"ssl_cert_reqs": "optional"}, True),
    ],
)
def test_the_default_is_ours(kwargs, checks):
    """Whatever the default of the installed redis-py is."""
    options = EngineOptions(client_kwargs=kwargs)
    made = connection_factory(parse_location("rediss://a"), options)()
    assert made.check_hostname is checks


@pytest.mark.parametrize(
    "kwargs", [{"ssl_check_hostname": "maybe"}, {"ssl_cert_reqs": "most"}]
)
def test_neither_yes_nor_no(kwargs):
    """A word that means neither is an error at construction."""
    options = EngineOptions(client_kwargs=kwargs)
    with pytest.raises(ConfigError, match=r"ssl_check_hostname|Certificate"):
        connection_factory(parse_location("rediss://a"), options)


def test_memcached_through_tls(certificates):
    """A context of the standard library checks chain and host there."""
    names = ["server", "other", "expired"]
    with ExitStack() as running:
        for name in names:
            server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            server.load_cert_chain(
                certificates / f"{name}.crt", certificates / "server.key"
            )
            port = running.enter_context(scripted(b"EN\r\n", tls=server))
            context = ssl.create_default_context(cafile=certificates / "ca.crt")
            address = Address("127.0.0.1", ("127.0.0.1", port))
            options = EngineOptions(client_kwargs={"tls_context": context})
            if name == "server":
                link = open_link(address, options)
                assert link.exchange(b"mg k\r\n", 1)[0].words == [b"EN"]
                link.close()
                continue
            with pytest.raises(ssl.SSLCertVerificationError):
                open_link(address, options)


@pytest.mark.parametrize(
    ("scheme", "query", "ports"),
    [
        ("rediss", "", ("tls", "tls")),
        ("rediss", "&sentinel_ssl=false", ("plain", "tls")),
        ("redis", "&sentinel_ssl=true&sentinel_ssl_ca_certs={ca}", ("tls", "plain")),
    ],
)
def test_sentinel(tls_server, certificates, scheme, query, ports):
    """TLS to the sentinels, to the master, or to both; each is verified."""
    tls_port = free_port()
    master = tls_server.tls_port if ports[1] == "tls" else tls_server.port
    lines = [
        f"sentinel monitor m 127.0.0.1 {master} 1",
        "sentinel down-after-milliseconds m 600000",
        f"tls-port {tls_port}",
        f"tls-cert-file {certificates / 'server.crt'}",
        f"tls-key-file {certificates / 'server.key'}",
        f"tls-ca-cert-file {certificates / 'ca.crt'}",
        "tls-auth-clients no",
    ]
    with started(SentinelServer(find_redis_server(), lines)) as sentinel:
        port = tls_port if ports[0] == "tls" else sentinel.port
        authority = certificates / "ca.crt"
        ca = f"ssl_ca_certs={authority}" if scheme == "rediss" else "client_name=x"
        url = f"{scheme}+sentinel://127.0.0.1:{port}/m/0?{ca}{query}"
        cache = lone_cache(url.format(ca=authority), on_error="raise", **PATIENT)
        cache.set("key", 1)
        assert str(master) in cache.health().server
        unverified = url.replace(f"ssl_ca_certs={authority}", "client_name=x")
        if scheme == "rediss":
            strict = lone_cache(unverified, on_error="raise", l1_max_entries=0)
            with pytest.raises(L2Error, match="CERTIFICATE_VERIFY_FAILED"):
                strict.get("key")
