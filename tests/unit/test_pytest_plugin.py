"""The plugin's fixtures, in runs of pytest as an application has them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import cachebridge.django_backend
import cachebridge.flask_ext  # noqa: F401 an inner run forgets what it imports first
import cachebridge_pytest.calls
import cachebridge_pytest.clock
import cachebridge_pytest.fleet
import cachebridge_pytest.isolation
from tests.examples import ROOT, blocks

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "no:cachebridge", "-p", "cachebridge_pytest", "-p", "no:django")
ALSO_OFF = ("-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:pytest_cov")


@pytest.fixture
def inner(pytester):
    """Return a function that runs a test file with the plugin."""

    def run(text, *, ini="", django=""):
        pytester.makeini(f"[pytest]\n{ini}\n")
        if django:
            pytester.makeconftest(django)
        pytester.makepyfile(text)
        return pytester.runpytest_inprocess(*PLUGIN, *ALSO_OFF)

    return run


def test_the_page_is_true(inner, shared_server):
    """Every example of the page that is a test passes."""
    page = ROOT / "docs" / "testing-an-application.md"
    text = "\n\n".join(block.code for block in blocks(page) if block.is_run)
    inner(text).assert_outcomes(passed=text.count("def test_"))


WITH_DJANGO = """
from django.core.cache import caches
import pytest
"""
ORDER = """
def test_first():
    assert caches["default"].get("k") is None
    caches["default"].set("k", 1)
    assert caches["default"].get("k") == 1
def test_second():
    test_first()
"""


@pytest.mark.parametrize("mode", ["memory", "prefix", "db"])
def test_tests_find_no_values_of_others(inner, redis_url, settings, mode):
    """In each mode; the database is the last part of the address."""
    number = redis_url.rpartition("/")[2]
    use(settings, redis_url)
    ini = f"cachebridge_isolate = {mode}\ncachebridge_databases = {number}"
    inner(WITH_DJANGO + ORDER, ini=ini).assert_outcomes(passed=2)


def test_without_isolation_they_do(inner, redis_url, settings):
    """Else the test above would prove nothing."""
    use(settings, redis_url)
    inner(WITH_DJANGO + ORDER).assert_outcomes(passed=1, failed=1)


def test_prefixes_leave_nothing_behind(inner, redis_url, settings):
    """Neither keys of the tests, nor a change of others."""
    import redis

    use(settings, redis_url)
    client = redis.Redis.from_url(redis_url)
    client.set("somebody's", "value")
    inner(WITH_DJANGO + ORDER, ini="cachebridge_isolate = prefix").assert_outcomes(
        passed=2
    )
    left = {key for key in client.scan_iter() if not key.startswith(b"cachebridge:")}
    assert left == {b"somebody's"}
    client.close()


def test_the_marker_turns_l1_off(inner, redis_url, settings):
    """For one test; the next one has it."""
    use(settings, redis_url)
    inner(
        WITH_DJANGO
        + """
@pytest.mark.cachebridge(isolate="memory", l1=False)
def test_without():
    for _ in range(3):
        caches["default"].set("k", 1)
        assert caches["default"].get("k") == 1
    assert caches["default"].stats().l1_hits == 0
@pytest.mark.cachebridge(isolate="memory")
def test_with():
    caches["default"].get("k")
    caches["default"].set("k", 1)
    for _ in range(3):
        assert caches["default"].get("k") == 1
    assert caches["default"].stats().l1_hits > 0
"""
    ).assert_outcomes(passed=2)


@pytest.fixture
def on_redis(settings, redis_url):
    """Let Django's caches be on Redis."""
    use(settings, redis_url)


@pytest.mark.parametrize(
    ("ini", "mark", "text"),
    [
        ("cachebridge_isolate = redis", "", "valid modes: off, memory, prefix, db"),
        ("", "l2=False", "valid arguments*isolate, l1"),
        ("", "l1=False", "l1=False needs isolate"),
        ("cachebridge_isolate = db", "", "cachebridge_databases = 8-15"),
    ],
)
def test_mistakes_have_clear_errors(inner, on_redis, ini, mark, text):
    """They name what is valid."""
    mark = f"@pytest.mark.cachebridge({mark})" if mark else ""
    result = inner(f"import pytest\n{mark}\ndef test_a(): pass", ini=ini)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{text}*"])


def test_each_worker_of_xdist_has_a_database():
    """In the order of their numbers; one too many is told so."""
    of = cachebridge_pytest.isolation._database
    assert [of("8-10", worker) for worker in range(3)] == [8, 9, 10]
    assert of("3", 0) == 3
    with pytest.raises(pytest.fail.Exception, match="8-10 are too few"):
        of("8-10", 3)


def test_a_clock_that_nobody_follows_says_so(inner):
    """Else a test would pass time in vain."""
    result = inner("def test_a(cachebridge_clock): cachebridge_clock.advance(1)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no cache follows this clock*"])


def test_too_many_calls_are_named(inner, redis_url):
    """Over Redis, and the failure lists them; tasks count like threads."""
    result = inner(
        f"""
import asyncio
from cachebridge import Cache
def test_a(assert_l2_calls):
    with Cache({redis_url!r}, L1_MAX_ENTRIES=0, SOCKET_TIMEOUT=60) as cache:
        with assert_l2_calls(max=4) as calls:
            cache.set("k", 1)
            asyncio.run(cache.aget("k"))
            assert len(calls) == 2, calls
            cache.get_or_load("other", lambda: 1)
        with assert_l2_calls(max=1):
            cache.get_many(["k", "other"])
            cache.delete("k")
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*2 calls to shared stores, expected at most 1*"])


def test_it_imports_nothing_until_it_is_used():
    """Only pytest."""
    code = (
        "import sys, pytest; before = set(sys.modules); import cachebridge_pytest;"
        "new = set(sys.modules) - before; assert new == {'cachebridge_pytest'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_pytest_finds_it():
    """By its entry point."""
    (found,) = entry_points(group="pytest11", name="cachebridge")
    assert found.value == "cachebridge_pytest"


def use(settings, url):
    """Let Django's caches be on this server."""
    settings.CACHES = {
        "default": {
            "BACKEND": "cachebridge.django_backend.CacheBridge",
            "LOCATION": url,
            "OPTIONS": {"SOCKET_TIMEOUT": 120, "SOCKET_CONNECT_TIMEOUT": 120},
        }
    }
