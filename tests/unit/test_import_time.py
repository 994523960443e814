"""What an import loads: judged by the list of modules, which no busy machine changes.

``import cachebridge`` must stay cheap for programs that only might use it.  Each module
below takes from five to a hundred milliseconds, or is a framework.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

NEVER = {
    "redis": "only a location on Redis needs it",
    "hiredis": "the same",
    "pymemcache": "only a location on Memcached needs it",
    "django": "only its own adapter needs it",
    "flask": "only its own adapter needs it",
    "pytest": "only cachebridge.testing.contracts needs it",
}
"""What only one kind of use needs; the same holds for a cache in memory."""

NOT_YET = {
    "asyncio": "tasks have imported it",
    "ssl": "asyncio and TLS need it",
    "socket": "connections need it",
    "selectors": "the same",
    "subprocess": "nothing here needs it",
    "concurrent.futures": "nothing here needs it",
    "logging": "the engine needs it",
    "hashlib": "the engine needs it",
    "urllib.parse": "locations need it",
    "json": "the engine needs it",
    "pickle": "the engine needs it",
    "decimal": "the rules of copies need it",
    "uuid": "the same",
    "zoneinfo": "the same",
    "difflib": "a wrong option needs it",
    "cachebridge.engine.engine": "the first cache needs it",
    "cachebridge.engine.counter": "the first counter needs it",
    "cachebridge.groups.group": "the first group needs it",
    "cachebridge.groups.memoize": "the first memoized function needs it",
}
"""What the first cache, or the first error, may load, but not the import."""


def loaded_by(code):
    """Return the names of the modules that the code loads in a fresh interpreter."""
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        f"{code}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    # Without site, which loads whatever else is installed into the environment.
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    run = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", path + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def by_import():
    return loaded_by("import cachebridge")


@pytest.fixture(scope="module")
def by_memory():
    return loaded_by(
        "import cachebridge\n"
        "cache = cachebridge.Cache('memory://')\n"
        "cache.set('k', 1)\n"
        "assert cache.get('k') == 1\n"
        "cache.stats(), cache.health()"
    )


@pytest.fixture(scope="module")
def by_django():
    backend = "cachebridge.django_backend.CacheBridge"
    return loaded_by(
        "import django\n"
        "from django.conf import settings\n"
        "settings.configure(\n"
        "    INSTALLED_APPS=['cachebridge.contrib.django'],\n"
        f"    CACHES={{'default': {{'BACKEND': {backend!r}, 'LOCATION': 'memory://'}}}},\n"
        ")\n"
        "django.setup()\n"
        "from django.core.cache import cache\n"
        "cache.set('k', 1)\n"
        "assert cache.get('k') == 1"
    )


@pytest.fixture(scope="module")
def by_flask():
    return loaded_by(
        "from flask import Flask\n"
        "from cachebridge.flask_ext import Cache\n"
        "app = Flask('app')\n"
        "cache = Cache(app, config={'CACHE_TYPE': 'SimpleCache'})\n"
        "with app.app_context():\n"
        "    cache.set('k', 1)\n"
        "    assert cache.get('k') == 1"
    )


@pytest.mark.parametrize("module", sorted(NEVER | NOT_YET))
def test_import(module, by_import):
    """``import cachebridge`` does not load it."""
    assert module not in by_import


@pytest.mark.parametrize("module", [*NEVER, "asyncio", "ssl"])
def test_a_cache_in_memory(module, by_memory):
    """Nor does a cache that needs no server, in a thread."""
    assert module not in by_memory


@pytest.mark.parametrize("module", sorted(NEVER.keys() - {"django"}))
def test_django(module, by_django):
    """Nor do the backend for Django and the app, over a cache in memory."""
    assert module not in by_django


@pytest.mark.parametrize("module", sorted(NEVER.keys() - {"flask"}))
def test_flask(module, by_flask):
    """Nor does the extension for Flask."""
    assert module not in by_flask


def test_redis_is_loaded_with_its_location():
    """The list above is not green because nothing is ever loaded."""
    code = "import cachebridge\ncachebridge.Cache('redis://127.0.0.1:1/0')"
    assert "redis" in loaded_by(code)
