"""The suites: whose tests they are, which of them, and what they import."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from tests.proofs.suites.sources import Pin, pinned


@dataclass(frozen=True, slots=True)
class Suite:
    """Some tests out of one source distribution.

    `at_least` tests must have run, so that a distribution which lost its tests, or a
    label that matches nothing, cannot pass. Where L1 is watched, it must have answered
    reads of the tests; throttles stay out of it by L1_EXCLUDE. On Memcached the
    messages go over Redis, or there are none; a cluster publishes them itself.
    """

    name: str
    source: Pin
    settings: str
    labels: tuple[str, ...]
    at_least: int
    folder: str = "."
    imports: tuple[str, ...] = ()
    remote_writes: bool = False
    watches_l1: bool = False
    by_tasks: bool = False
    on_memcached: bool = False
    on_clusters: bool = False
    has_bus: bool = True
    timeout_s: float = 240.0


# The concrete classes of other backends are left out, and what tests no backend.
DJANGO_LABELS = (
    "inside.django_cases",
    "cache.tests.CustomCacheKeyValidationTests",
    "cache.tests.DefaultNonExpiringCacheKeyTests",
    "cache.tests.CacheUtils",
    "cache.tests.PrefixedCacheUtils",
    "cache.tests.CacheHEADTest",
    "cache.tests.CacheI18nTest",
    "cache.tests.PrefixedCacheI18nTest",
    "cache.tests.CacheMiddlewareTest",
    "cache.tests.TestWithTemplateResponse",
    "cache.tests.CacheHandlerTest",
    "template_tests.syntax_tests.test_cache",
    "sessions_tests.tests.CacheSessionTests",
    "sessions_tests.tests.CacheDBSessionTests",
    "sessions_tests.tests.CacheDBSessionWithTimeZoneTests",
    "async.tests.CacheTest",
)


def _django(name: str, **how: bool) -> Suite:
    return Suite(
        name=name,
        source=Pin("django", version("django")),
        folder="tests",
        settings="inside.settings.django_suite",
        labels=DJANGO_LABELS,
        at_least=360,
        watches_l1=True,
        **how,
    )


SUITES = {
    suite.name: suite
    for suite in (
        _django("django"),
        _django("django-remote-writes", remote_writes=True),
        _django("django-tasks", by_tasks=True),
        _django("django-cluster", on_clusters=True, has_bus=False),
        _django("django-memcached", on_memcached=True),
        _django("django-memcached-alone", on_memcached=True, has_bus=False),
        _django(
            "django-memcached-remote-writes", on_memcached=True, remote_writes=True
        ),
        Suite(
            name="ratelimit",
            source=pinned("django-ratelimit"),
            settings="inside.settings.ratelimit",
            labels=("django_ratelimit.tests",),
            at_least=52,
        ),
        Suite(
            name="drf",
            source=pinned("djangorestframework"),
            settings="inside.settings.drf",
            labels=("tests.test_throttling",),
            at_least=29,
        ),
        Suite(
            name="toolbar",
            source=pinned("django-debug-toolbar"),
            settings="inside.settings.toolbar",
            labels=(
                "tests.panels.test_cache",
                # Its store of panels in a cache, with the alias that was LocMem's.
                "tests.test_store.CacheStoreWithMemoryBackendTestCase",
            ),
            at_least=25,
            watches_l1=True,
            imports=(
                *("html5lib", "six", "webencodings", "jinja2", "markupsafe"),
                "django-template-partials",
            ),
        ),
        Suite(
            name="cachalot",
            source=pinned("django-cachalot"),
            settings="inside.settings.cachalot",
            labels=("cachalot.tests", "cachalot.admin_tests"),
            at_least=190,
            watches_l1=True,
            imports=(
                *("django-debug-toolbar", "jinja2", "markupsafe", "beautifulsoup4"),
                *("soupsieve", "pytz", "psycopg", "psycopg-binary"),
                "typing-extensions",
            ),
        ),
    )
}
