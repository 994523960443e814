"""What may be seen of foreign texts: no secret, no line break, no endless length."""

from __future__ import annotations

import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cachebridge import Cache
from cachebridge.config import EngineOptions, parse_options
from cachebridge.errors import ConfigError
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.location import parse_location
from cachebridge.texts import (
    SHOWN,
    SHOWN_REPLY,
    clean,
    conceal,
    hide_password,
    secrets_in,
    shown,
    shown_reply,
)

WORDS = ("Zx9qKm", "Yw8vJn", "Üß7köÄ")
"""Pieces of passwords; they occur in no text of ours."""
MARKS = (
    *"@:/?#%&=+;, []{}<>|\\^`'\"!$()*~-_.",
    *("%40", "%2F", "%zz", "é", "\t", "\n", "\x1b[2J", "12", "0", "db=1", "€"),
)
PASSWORDS = st.tuples(
    st.lists(st.sampled_from(MARKS), max_size=3).map("".join),
    st.sampled_from(WORDS),
    st.lists(st.sampled_from(MARKS + WORDS), max_size=5).map("".join),
    st.sampled_from(WORDS),
    st.lists(st.sampled_from(MARKS), max_size=2).map("".join),
).map("".join)
SCHEMES = st.sampled_from(
    [
        *("redis", "rediss", "unix", "memcached", "memory", "http", "valkeys"),
        "redis+sentinel",
    ]
)
PLACES = st.sampled_from(
    [
        "{scheme}://:{password}@10.0.0.1:6379/0",
        "{scheme}://user:{password}@10.0.0.1:6379/0",
        "{scheme}://{password}@10.0.0.1/0",
        "{scheme}://user:{password}@10.0.0.1:port/zero",
        "{scheme}://user:{password}@10.0.0.1:1,10.0.0.1/main/0",
        "{scheme}://10.0.0.1:1/main/0?sentinel_password={password}",
        "{scheme}://user:{password}",
        "{scheme}://:{password}/0",
        "{scheme}://10.0.0.1:6379/0?password={password}",
        "{scheme}://10.0.0.1:6379/0?db=1&PASSWORD={password}&client_name=x",
        "{scheme}://10.0.0.1:6379/0?username={password}",
        "{scheme}://10.0.0.1:6379/0?ssl_password={password}",
        "{scheme}://10.0.0.1:6379/0?sentinel_password={password}",
        "{scheme}://10.0.0.1:6379/0?no_such={password}",
        "user:{password}@10.0.0.1:6379",
    ]
)
FORMS = st.sampled_from([str, quote, quote_plus, lambda text: quote(text, safe="")])


def texts_of(exc):
    """Return all that can be read of an exception and of what has led to it."""
    seen = []
    while exc is not None:
        seen += [*map(repr, exc.args), str(exc), repr(vars(exc))]
        exc = exc.__cause__ or exc.__context__
    return " ".join(seen)


@given(place=PLACES, scheme=SCHEMES, password=PASSWORDS, form=FORMS)
@example(PLACES.elements[0], "redis", "/Zx9qKm", str)
@example(PLACES.elements[1], "redis", "12/Zx9qKm", str)
@example(PLACES.elements[1], "redis", "12?Zx9qKm=1", str)
@example(PLACES.elements[1], "redis", "12#Zx9qKm", str)
@example(PLACES.elements[0], "rediss", "[Zx9qKm", str)
def test_no_word_of_a_password_in_a_location(place, scheme, password, form):
    """No label, repr, error or chained error shows one, also where the URL is wrong."""
    if "10.0.0.1" not in place:  # what follows an "@" then is a host, by all rules
        password = password.replace("@", "").replace("%40", "")
    location = place.format(scheme=scheme, password=form(password))
    options = EngineOptions(
        client_kwargs={"password": password}, sentinel_kwargs={"password": password}
    )
    seen = [hide_password(location), repr(options)]
    try:
        parsed = parse_location(location)
        seen += [parsed.label, repr(parsed), repr(parsed.sentinel)]
        seen += [repr(connection_factory(parsed, EngineOptions()))]
        seen += [repr(connection_factory(parsed, options))]
    except ConfigError as exc:
        seen += [texts_of(exc), "".join(traceback.format_exception(exc)[-1:])]
    text = " ".join(seen)
    for word in WORDS:
        for written in (str, quote, ascii):
            assert written(word).strip("'") not in text


@pytest.mark.parametrize("name", ["BUS_LOCATION", "CLIENT_KWARGS", "SOCKET_TIMEOUT"])
def test_an_option_that_is_none(name):
    """What an option must be is said without what it is, where that may be a secret."""
    values = {
        "BUS_LOCATION": ["redis://:Zx9qKm@h"],
        "CLIENT_KWARGS": "password=Zx9qKm",
        "SOCKET_TIMEOUT": "1",
    }
    with pytest.raises(ConfigError, match=name) as raised:
        parse_options({name: values[name]})
    assert "Zx9qKm" not in texts_of(raised.value)


def test_caches_that_differ():
    """Two caches on one server that do not agree are named without their logins."""
    url = "redis://:Zx9qKm@127.0.0.1:1/0"
    first = Cache(url, client_kwargs={"client_name": "a"})
    with pytest.raises(ConfigError, match="share one engine") as raised:
        Cache(url, l1_ttl=2.0)
    assert "Zx9qKm" not in texts_of(raised.value)
    with pytest.raises(ConfigError) as raised:
        Cache(url, client_kwargs={"ssl_password": "Yw8vJn"})
    assert "Yw8vJn" not in texts_of(raised.value)
    assert "Zx9qKm" not in repr(first) + repr(vars(first))


def test_a_password_that_cannot_be_sent():
    """Half a character, as from a broken environment variable, is an error at once."""
    with pytest.raises(ConfigError, match="not usable") as raised:
        parse_location("redis://h/0", {"password": "Zx9qKm\udc80"})
    assert "Zx9qKm" not in texts_of(raised.value)


@pytest.mark.parametrize(
    ("location", "label"),
    [
        ("redis://a", "redis://a"),
        ("redis://a:6379/3", "redis://a:6379/3"),
        ("rediss://shop:pw@a.example:6380/0", "rediss://shop:***@a.example:6380/0"),
        ("redis://token@a/0", "redis://***@a/0"),
        ("redis://[::1]:6379/0?db=2", "redis://[::1]:6379/0?db=2"),
        ("rediss://a/0?ssl_cert_reqs=none", "rediss://a/0?ssl_cert_reqs=none"),
        ("unix:///run/r.sock?db=1&password=x", "unix:///run/r.sock?db=1&password=***"),
        ("memcached://a:1,[::1]:2", "memcached://a:1,[::1]:2"),
        ("memcached://unix:/run/m.sock,b", "memcached://unix:/run/m.sock,b"),
        (
            "redis+sentinel://u:pw@h1:26379,h2/main/0?sentinel_password=x",
            "redis+sentinel://u:***@h1:26379,h2/main/0?sentinel_password=***",
        ),
        ("localhost:6379", "localhost:6379"),
    ],
)
def test_the_address_stays(location, label):
    """What tells one server from another is shown."""
    assert hide_password(location) == label


def test_hiding_takes_no_time():
    """Also a hundred thousand marks."""
    for mark in "a@:/?#,[":
        assert len(hide_password("redis://" + mark * 100_000)) < 300_000


@given(st.text(max_size=200))
def test_one_line(text):
    """Whatever a key holds: printable characters, and not many."""
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= 10 * SHOWN + 3
    assert shown(line, 10_000) == line
    if text.isprintable() and len(text) <= SHOWN:
        assert line == text


def test_escapes():
    """Line breaks and sequences of a terminal are seen as what they are."""
    assert shown("a\n\x1b[2J\u2028\ud800") == "a\\n\\x1b[2J\\u2028\\ud800"
    assert shown("x" * 100) == "x" * SHOWN + "..."


def test_a_command_that_a_server_repeats():
    """Its arguments, a key and a value or the password, are left out."""
    text = "ERR unknown command 'AUTH', with args beginning with: 'user' 'Zx9qKm'"
    assert shown_reply(text) == "ERR unknown command 'AUTH'"
    assert len(shown_reply("x" * 10_000)) == SHOWN_REPLY + 3


def test_what_is_cleaned():
    """The whole chain of an exception, its length and its control characters."""
    exc = OSError(7, "Zx9qKm too")
    exc.__cause__ = ValueError("no Zx9qKm\n")
    clean(exc, secrets_in({"password": "Zx9qKm"}))
    assert exc.args == (7, "*** too")
    assert exc.__cause__.args == ("no ***\\n",)


def test_a_short_secret_stays():
    """It would be found everywhere, and what is missing then would tell it."""
    assert conceal("a database", secrets_in({"password": "a"})) == "a database"
