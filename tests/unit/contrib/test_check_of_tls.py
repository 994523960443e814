"""W013: TLS that was told not to check whom it talks to; asks no server."""

from __future__ import annotations

import ssl

import pytest
from django.core.cache import caches

from cachebridge.contrib.django.checks.security import check_tls
from tests.unit.django.support import entry

FAR = "rediss://:my-secret@redis.example.com:6379/0"


@pytest.fixture
def found(set_caches):
    """Return a function that puts one cache into CACHES and runs the one check."""

    def find(location: str, **options):
        set_caches(default=entry(location, OPTIONS=options))
        assert caches["default"]
        return [message.msg for message in check_tls()]

    return find


@pytest.mark.parametrize(
    ("query", "options", "accepted"),
    [
        ("?ssl_cert_reqs=none", {}, "any certificate"),
        ("", {"ssl_cert_reqs": None}, "any certificate"),
        ("", {"CLIENT_KWARGS": {"ssl_cert_reqs": ssl.CERT_NONE}}, "any certificate"),
        ("?ssl_check_hostname=false", {}, "a certificate of any host"),
        ("", {"ssl_check_hostname": False}, "a certificate of any host"),
        ("", {"SERIALIZER": "json", "ssl_check_hostname": False}, "of any host"),
    ],
)
def test_what_is_left_unchecked(found, query, options, accepted):
    """Each option that switches a check off is named, without the password."""
    (text,) = found(FAR + query, **options)
    assert f"accepts {accepted}" in text or accepted in text
    assert "redis.example.com" in text
    assert "my-secret" not in text


@pytest.mark.parametrize(
    "location", [FAR, f"{FAR}?ssl_ca_certs=/ca.pem", "redis://h/0", "unix:///s"]
)
def test_nothing_to_say(found, location):
    """With both checks, and without TLS: that is what W004 is about."""
    assert found(location) == []


def test_memcached(found):
    """Its context, and the URL of the bus."""
    context = ssl.create_default_context()
    assert found("memcached://h", tls_context=context) == []
    context.check_hostname = False
    assert "a certificate of any host" in found("memcached://h", tls_context=context)[0]
    context.verify_mode = ssl.CERT_NONE
    (cache, bus) = found(
        "memcached://h",
        tls_context=context,
        BUS_LOCATION="rediss://b/0?ssl_cert_reqs=none",
    )
    assert "memcached://h with TLS that accepts any certificate" in cache
    assert "rediss://b/0" in bus


def test_only_under_deploy(set_caches, run_checks):
    """It is a check of deployments."""
    set_caches(default=entry("rediss://192.0.2.1:1/0?ssl_cert_reqs=none"))
    assert run_checks(deploy=False) == {}
