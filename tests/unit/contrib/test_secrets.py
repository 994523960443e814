"""No text that leaves the process holds a secret of CACHES."""

from __future__ import annotations

import pytest

from cachebridge.contrib.django.aliases import conceal
from tests.unit.django.support import entry


@pytest.mark.parametrize(
    ("location", "options"),
    [
        ("redis://:s3cret@h/0", {}),
        ("redis://user:s3cret@h/0", {}),
        ("rediss://h/0?ssl_password=s3cret", {}),
        ("unix:///socket?db=1&password=s3cret", {}),
        ("redis://h/0", {"password": "s3cret"}),
        ("redis://h/0", {"PASSWORD": "s3cret"}),
        ("redis://h/0", {"CLIENT_KWARGS": {"ssl_password": "s3cret"}}),
        ("redis://h/0", {"CONNECTION_POOL_KWARGS": {"password": "s3cret"}}),
        ("redis://h/0", {"SIGNING_KEY": ["s3cret", "older"]}),
        (["redis://:s3cret@h/0"], {}),
    ],
)
def test_a_secret_anywhere(set_caches, location, options):
    """Wherever the entry holds it, it is taken out of every text."""
    set_caches(default=entry(location, OPTIONS=options))
    assert conceal("'s3cret' was wrong", "default") == "'***' was wrong"
    assert "older" not in conceal("older", "default") or "SIGNING_KEY" not in options
    assert conceal("no connection to h", "default") == "no connection to h"


def test_a_password_with_marks(set_caches):
    """All of it, also where the URL should have had it encoded."""
    set_caches(default=entry("redis://user:p@s3cret@h/0"))
    assert conceal("'p@s3cret' was wrong", "default") == "'***' was wrong"


def test_an_encoded_password(set_caches):
    """As it stands in the URL, and as the server is told it."""
    set_caches(default=entry("redis://:s3cret%21%2F@h/0"))
    assert conceal("'s3cret!/', 's3cret%21%2F'", "default") == "'***', '***'"


def test_a_password_that_is_a_word_of_the_address(set_caches):
    """Taking it out would tell what it is."""
    set_caches(default=entry("redis://:redis@h/0"))
    assert conceal("redis://:***@h/0 refused", "default") == "redis://:***@h/0 refused"


def test_an_alias_without_secrets(set_caches):
    """Also one that is not there."""
    set_caches()
    assert conceal("text", "default") == conceal("text", "unknown") == "text"
