"""W004: unsigned pickles over a network that others may use; asks no server."""

from __future__ import annotations

import pytest
from django.core.cache import caches

from cachebridge.contrib.django.checks.security import check_pickle
from tests.unit.django.support import entry

FAR = "redis.example.com:6379/0"


@pytest.fixture
def found(set_caches):
    """Return a function that puts one cache into CACHES and runs the one check."""

    def find(location: str, **options):
        set_caches(default=entry(location, OPTIONS=options))
        assert caches["default"]
        return [message.msg for message in check_pickle()]

    return find


@pytest.mark.parametrize(
    ("location", "missing"),
    [
        (f"redis://{FAR}", "without TLS and without a password"),
        (f"redis://:my-secret@{FAR}", "without TLS:"),
        (f"rediss://{FAR}", "network without a password"),
        (f"rediss://:my-secret@{FAR}?ssl_cert_reqs=none", "any certificate"),
        ("redis://10.0.0.5/0", "without TLS and without a password"),
        ("redis://[2001:db8::1]:6379/0", "without TLS and without a password"),
        ("redis://redis:6379/0", "without TLS and without a password"),
    ],
)
def test_over_a_network(found, location, missing):
    """A warning that says what is missing, and never the password."""
    (text,) = found(location)
    assert missing in text
    assert "my-secret" not in text


@pytest.mark.parametrize(
    "location",
    [
        "redis://127.0.0.1:6379/0",
        "redis://127.8.8.8/0",
        "redis://localhost/0",
        "redis:///0",
        "redis://[::1]:6379/0",
        "unix:///run/redis.sock",
        "memory://here",
        f"rediss://:my-secret@{FAR}",
        f"rediss://shop:my-secret@{FAR}",
    ],
)
def test_safe_enough(found, location):
    """Nothing to say on this machine, or with TLS and a password."""
    assert found(location) == []


def test_other_ways(found):
    """JSON is no pickle; a login may come from elsewhere than the URL."""
    assert found(f"redis://{FAR}", SERIALIZER="json") == []
    assert found(f"rediss://{FAR}", password="my-secret") == []
    assert found(f"rediss://{FAR}", CLIENT_KWARGS={"ssl_certfile": "/c.pem"}) == []


def test_only_under_deploy(set_caches, run_checks):
    """It is a check of deployments: developers on a shared server are left alone."""
    set_caches(default=entry("redis://192.0.2.1:1/0"))
    assert run_checks(deploy=False) == {}


KEY = "k" * 32


@pytest.mark.parametrize(
    "options",
    [
        {"SIGNING_KEYS": [KEY]},
        {"ENCRYPTION_KEYS": [KEY]},
        {"SERIALIZER": "msgpack"},
    ],
)
def test_sealed_values(found, options):
    """No pickle is read that another client of the server could have written."""
    assert found(f"redis://{FAR}", **options) == []


def test_sealed_but_not_yet(found):
    """While unsigned pickles pass, nothing has changed."""
    (text,) = found(f"redis://{FAR}", SIGNING_KEYS=[KEY], SIGNING_ACCEPT_UNSIGNED=True)
    assert "reads pickles" in text
