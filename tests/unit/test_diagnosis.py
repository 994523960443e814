"""What ``health().error`` says about a server that cannot be used, and why."""

from __future__ import annotations

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack, closing, contextmanager

import pytest
import redis

from cachebridge.diagnosis import diagnosis
from tests.rig import eventually, lone_cache

SECRET = "geheim"


@contextmanager
def serving(handle):
    """Accept connections on a free port and give each to ``handle``."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                handle(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def speak_http(connection):
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with closing(connection):
        Quiet(connection, ("127.0.0.1", 0), None)


@pytest.fixture
def port(request):
    """Return the port of a server of the kind that the test asks for."""
    with ExitStack() as stack:
        held: list[socket.socket] = []
        handle = {
            "http": speak_http,
            "closing": lambda connection: connection.close(),
            "silent": held.append,
        }[request.param]
        yield stack.enter_context(serving(handle))
        for connection in held:
            connection.close()


def error_of(url):
    health = lone_cache(url, socket_timeout=0.2, socket_connect_timeout=5.0).health()
    assert not health.l2_reachable
    assert SECRET not in health.error
    return health.error


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("http", "another kind of server"),
        ("closing", "ended the connection"),
        ("silent", "no answer in time"),
    ],
    indirect=["port"],
)
@pytest.mark.parametrize("scheme", ["redis", "memcached"])
def test_another_kind_of_server(port, said, scheme):
    """The error says what to look at.

    A server that closes at once may take its answer away.
    """
    error = error_of(f"{scheme}://127.0.0.1:{port}")
    is_lost = said == "another kind of server" and "ended the connection" in error
    assert said in error or is_lost


@pytest.mark.parametrize("login", [f"default:{SECRET}@", f"nobody:{SECRET}@", ""])
@pytest.mark.parametrize("db", [0, 1])
def test_a_login_that_is_refused(redis_server_factory, login, db):
    """A password that is not right, or none."""
    server = redis_server_factory(args=("--requirepass", "right"))
    error = error_of(f"redis://{login}127.0.0.1:{server.port}/{db}")
    assert ("refuses the password" if login else "asks for a password") in error


@pytest.mark.parametrize("scheme", ["redis", "rediss", "memcached"])
def test_nothing_there(free_port, scheme):
    """Refused: not running, or not listening yet."""
    assert "nothing listens there" in error_of(f"{scheme}://127.0.0.1:{free_port}")


@pytest.mark.parametrize("scheme", ["redis", "memcached"])
def test_a_name_that_the_resolver_does_not_know(scheme):
    """The error says that there is no such host."""
    assert "cannot be resolved" in error_of(f"{scheme}://no-such-host.invalid:1")


def test_no_such_socket(tmp_path):
    """The path is wrong, or the server is not running."""
    assert "no such socket" in error_of(f"unix://{tmp_path}/none.sock")


def test_redis_where_memcached_is_meant(shared_server):
    """It answers, with what is no reply of Memcached."""
    error = error_of(f"memcached://127.0.0.1:{shared_server.port}")
    assert "another kind of server" in error


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls_on_one_side_alone(tmp_path, shared_server):
    """Either way; and a certificate that is not trusted."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -subj /CN=x"
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def speak_tls(connection):
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            connection.close()

    with serving(speak_tls) as tls_port:
        plain = error_of(f"redis://127.0.0.1:{tls_port}")
        assert "protocol, such as" in plain
        untrusted = error_of(f"rediss://127.0.0.1:{tls_port}")
        assert "certificate is not trusted" in untrusted
    url = f"rediss://127.0.0.1:{shared_server.port}"
    cache = lone_cache(url, socket_timeout=0.2, socket_connect_timeout=0.2)
    assert "speaks TLS and the other does not" in cache.health().error


def test_a_missing_right_to_the_channels_names_the_pattern(redis_server_factory):
    """Both the error of a write and health say what to grant."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(
            *("ACL", "SETUSER", "app", "on", f">{SECRET}", "+@all", "~*"),
            "resetchannels",
        )
    cache = lone_cache(
        server.url.replace("//", f"//app:{SECRET}@"), on_error="raise", key_prefix="x"
    )
    with pytest.raises(Exception, match=r"&cachebridge:\*"):
        cache.set("k", 1)
    for _ in range(5):
        cache.get("k")
    eventually(lambda: "&cachebridge:*" in cache.health().error)


def test_other_failures_need_no_word():
    """Their text has to be enough."""
    assert not diagnosis(ValueError("x"))
