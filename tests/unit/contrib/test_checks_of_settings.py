"""The checks that read settings only: what is wrong, and what must not enter L1."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core import checks
from django.core.cache import caches
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.utils.connection import ConnectionProxy

from tests.unit.django.support import LOCMEM, entry

CACHED_DB = "django.contrib.sessions.backends.cached_db"
ANON = "rest_framework.throttling.AnonRateThrottle"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def found(run_checks, set_caches):
    """Return a function that puts entries into CACHES and runs the plain checks."""

    def find(**entries):
        set_caches(**entries)
        return run_checks(deploy=False)

    return find


def excluding(*prefixes: str, **params):
    return entry(NOWHERE, OPTIONS={"L1_EXCLUDE": list(prefixes)}, **params)


def test_nothing_to_say(found):
    """The defaults pass, with no server there: plain checks ask none."""
    assert found(default=entry(NOWHERE)) == {}
    assert found() == {}


# -- E001 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"OPTIONS": {"L1_MAX_ENTRY": 5}}, "Did you mean 'L1_MAX_ENTRIES'"),
        ({"OPTIONS": {"BUS_TRUST": "long"}}, "BUS_TRUST must be"),
        ({"OPTIONS": {"SENTINELS": []}}, "must be a list of (host, port)"),
        ({"LOCATION": ""}, "LOCATION is missing"),
        ({"LOCATION": "redis://:my-secret@h/x"}, "database 'x' is not a number"),
        ({"KEY_FUNCTION": "no.such.function"}, "No module named 'no'"),
        ({"BACKEND": "cachebridge.django_backend.CacheBrigde"}, "CacheBrigde"),
    ],
)
def test_an_entry_that_cannot_be_used(found, params, words):
    """E001 with the text instead of a traceback, and without a password."""
    messages = found(default={**entry(NOWHERE), **params})
    assert list(messages) == ["cachebridge.E001"]
    (error,) = messages.values()
    assert isinstance(error, checks.Error)
    assert error.msg.startswith("The cache 'default' cannot be made: ")
    assert "CACHES['default']: " not in error.msg  # it is named already
    assert words in error.msg
    assert "my-secret" not in error.msg


def test_two_entries_that_disagree(found):
    """Only together wrong: the error names both and the option."""
    messages = found(
        default=entry(NOWHERE),
        second=entry(NOWHERE, KEY_PREFIX="s", OPTIONS={"BUS_TRUST": 5}),
    )
    assert "BUS_TRUST" in messages["cachebridge.E001"].msg
    assert "CACHES['default']" in messages["cachebridge.E001"].msg


def test_another_backend_is_not_our_business(found):
    """Nothing is said about entries of other backends, right or wrong."""
    assert found(default={"BACKEND": LOCMEM}, odd={"BACKEND": "no.such.Cache"}) == {}


def test_the_command_fails_with_the_text(set_caches):
    """``manage.py check --tag cachebridge`` ends with the error and its id.

    Without the tag a check of Django's own makes every cache, and raises.
    """
    set_caches(default=entry(NOWHERE, OPTIONS={"L1_TTL": -1}))
    with pytest.raises(SystemCheckError, match=r"cachebridge\.E001.*L1_TTL must be"):
        call_command("check", tags=["cachebridge"], stderr=StringIO())


# -- W001 ------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_sessions_in_l1(found, settings, engine):
    """W001 exactly when L1_EXCLUDE was replaced by one without the engine's prefix."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    prefix = f"django.contrib.sessions.{engine}"
    assert found(default=entry(NOWHERE)) == {}
    assert found(default=excluding(prefix)) == {}
    assert found(default=excluding("django.contrib.")) == {}
    for exclude in (["private:"], [], [f"{prefix}x"]):
        messages = found(default=excluding(*exclude))
        assert list(messages) == ["cachebridge.W001"]
        (warning,) = messages.values()
        assert isinstance(warning, checks.Warning)
        assert repr(prefix) in warning.msg
        assert repr(prefix) in warning.hint
        assert "CACHES['default']" in warning.hint


def test_sessions_that_cannot_enter_l1(found, settings):
    """No warning without an L1, without cached sessions, or with them elsewhere."""
    settings.SESSION_ENGINE = CACHED_DB
    no_l1 = {"L1_EXCLUDE": ["x"], "L1_MAX_ENTRIES": 0}
    assert found(default=entry(NOWHERE, OPTIONS=no_l1)) == {}
    settings.SESSION_CACHE_ALIAS = "sessions"
    assert found(default=excluding("x"), sessions={"BACKEND": LOCMEM}) == {}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    assert found(default=excluding("x"), sessions=excluding("x")) == {}


def test_the_alias_of_the_sessions_counts(found, settings):
    """The entry looked at is that of SESSION_CACHE_ALIAS."""
    settings.SESSION_ENGINE = CACHED_DB
    settings.SESSION_CACHE_ALIAS = "sessions"
    messages = found(sessions=excluding("x"))
    assert "'sessions'" in messages["cachebridge.W001"].msg


def test_a_session_engine_of_ones_own(found, settings):
    """A derived engine is judged by its own prefix; one that is missing, not at all."""
    settings.SESSION_ENGINE = "tests.unit.contrib.session_engine"
    assert "visits:" in found(default=entry(NOWHERE))["cachebridge.W001"].msg
    assert found(default=excluding("visits:")) == {}
    settings.SESSION_ENGINE = "no.such.engine"
    assert found(default=excluding("x")) == {}


# -- W002 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "framework",
    [
        {"DEFAULT_THROTTLE_CLASSES": [ANON]},
        {"DEFAULT_THROTTLE_RATES": {"anon": "5/min"}},
    ],
)
def test_throttles_in_l1(found, settings, framework):
    """W002 exactly when throttles are set up and their prefix is not excluded."""
    settings.REST_FRAMEWORK = framework
    assert found(default=entry(NOWHERE)) == {}
    assert found(default=excluding("throttle_")) == {}
    assert found(default={"BACKEND": LOCMEM}) == {}
    warning = found(default=excluding("x"))["cachebridge.W002"]
    assert "RateThrottle" in warning.msg
    assert "'throttle_'" in warning.hint


@pytest.mark.parametrize(
    "framework",
    [{}, {"DEFAULT_THROTTLE_RATES": {"anon": None}}, {"PAGE_SIZE": 5}],
)
def test_no_throttles(found, settings, framework):
    """A project without throttles is not warned."""
    settings.REST_FRAMEWORK = framework
    assert found(default=excluding("x")) == {}


@pytest.mark.parametrize("named", [True, False])
def test_throttles_of_ones_own(run_checks, settings, set_caches, monkeypatch, named):
    """A throttle is judged by its own cache, however given, and its format of keys."""
    set_caches(default=entry(NOWHERE), other=entry("redis://127.0.0.1:1/1"))
    from tests.unit.contrib.throttles import OwnThrottle

    other = ConnectionProxy(caches, "other") if named else caches["other"]
    monkeypatch.setattr(OwnThrottle, "cache", other)
    settings.REST_FRAMEWORK = {
        "DEFAULT_THROTTLE_CLASSES": ["tests.unit.contrib.throttles.OwnThrottle"]
    }
    warning = run_checks(deploy=False)["cachebridge.W002"]
    assert "OwnThrottle" in warning.msg
    assert "'calls_'" in warning.hint
    assert "CACHES['other']" in warning.hint
    monkeypatch.setattr(OwnThrottle, "cache_format", "throttle_%(ident)s")
    assert run_checks(deploy=False) == {}


def test_throttles_that_are_not_there(found, settings):
    """A class that cannot be imported is Django REST framework's to report."""
    settings.REST_FRAMEWORK = {"DEFAULT_THROTTLE_CLASSES": ["no.such.Throttle"]}
    assert found(default=excluding("x")) == {}


# -- W003 ------------------------------------------------------------------------------


def test_ratelimits_in_l1(found, settings):
    """W003 exactly when django-ratelimit is set up and its prefix not excluded."""
    assert found(default=excluding("x")) == {}
    settings.RATELIMIT_USE_CACHE = "default"
    assert found(default=entry(NOWHERE)) == {}
    assert "'rl:'" in found(default=excluding("x"))["cachebridge.W003"].hint
    settings.RATELIMIT_CACHE_PREFIX = "limits:"
    assert "'limits:'" in found(default=entry(NOWHERE))["cachebridge.W003"].hint
    settings.RATELIMIT_CACHE_PREFIX = ""
    assert "prefix" in found(default=entry(NOWHERE))["cachebridge.W003"].hint
    settings.RATELIMIT_ENABLE = False
    assert found(default=entry(NOWHERE)) == {}


def test_ratelimits_elsewhere(found, settings):
    """The entry looked at is that of RATELIMIT_USE_CACHE."""
    settings.RATELIMIT_USE_CACHE = "limits"
    assert found(default=excluding("x"), limits={"BACKEND": LOCMEM}) == {}
    assert "W003" in "".join(found(limits=excluding("x")))


# -- I001 ------------------------------------------------------------------------------


def test_processes_that_may_not_be_asked(found, settings):
    """I001, where the admin has a page that would show them."""
    silent = entry(NOWHERE, OPTIONS={"FLEET_ASK": False})
    assert "django.contrib.admin" in settings.INSTALLED_APPS
    assert list(found(default=silent)) == ["cachebridge.I001"]
    assert found(default=entry(NOWHERE)) == {}
    settings.INSTALLED_APPS = [
        each for each in settings.INSTALLED_APPS if each != "django.contrib.admin"
    ]
    assert found(default=silent) == {}


# -- W014 ------------------------------------------------------------------------------


def test_shared_l1_that_can_be(found, tmp_path):
    """Nothing to say, and no file is made."""
    options = {"L1_SHARED": f"1M {tmp_path}"}
    assert found(default=entry(NOWHERE, OPTIONS=options)) == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"L1_SHARED": "1M /nowhere"}, "/nowhere: No such file or directory"),
        ({"L1_SHARED": "1M", "BUS": "none"}, "BUS is 'none'"),
    ],
)
def test_shared_l1_that_cannot_be(found, options, reason):
    """The text has the reason."""
    messages = found(default=entry(NOWHERE, OPTIONS=options))
    assert list(messages) == ["cachebridge.W014"]
    assert reason in messages["cachebridge.W014"].msg
