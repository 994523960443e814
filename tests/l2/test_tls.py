"""``rediss://`` with a certificate authority of the test's own."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from itertools import count

import pytest
import redis

from cachebridge.errors import L2Error
from cachebridge.testing import ServerStartError, redis_server
from cachebridge.testing.ports import free_port
from tests.l2.conftest import open_store
from tests.l2.test_contract import RedisContract
from tests.rig import eventually, listening, lone_cache

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
    openssl(
        directory, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey",
        "ca.key", "-CAcreateserial", "-out", "server.crt", "-days", "2", "-extfile",
        "extensions",
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
