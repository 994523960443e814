"""The tests of Flask-Caching, cachelib and django-redis, which run under pytest.

Each suite is run in a child process on servers of its own, with a plugin of ``inside``
in the place of their conftest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cachebridge.testing import memcached_server, redis_server
from tests.proofs.suites.inside.plan import VARIABLE
from tests.proofs.suites.judge import Verdict, judged, rules_for
from tests.proofs.suites.launch import REPOSITORY, Report, SuiteError, commands
from tests.proofs.suites.sources import HERE, pinned, unpacked

if TYPE_CHECKING:
    from tests.proofs.suites.sources import Pin

DATABASES = 2000
FLASK_CACHING_FILES = (
    "test_basic_app.py",
    "test_cache.py",
    "test_cachelib.py",
    "test_hash_method.py",
    "test_init.py",
    "test_memoize.py",
    "test_py314_annotations.py",
    "test_serializer.py",
    "test_signals.py",
    "test_subclassing.py",
    "test_templates.py",
    "test_view.py",
)
_BACKEND = "test_backend.py::TestDjangoRedisCache::test_"
STRUCTURES = tuple(
    f"{_BACKEND}{each}"
    for each in (
        *("sadd", "scard", "sdiff", "sdiffstore", "sinter", "interstore", "sismember"),
        "sdiffstore_with_keys_version",
        *(
            f"sdiffstore_with_different_keys_versions_{kind}_initial_set_in_version"
            for kind in ("with", "without")
        ),
        *("smove", "spop", "spop_default_count", "srandmember", "srem", "smismember"),
        *("srandmember_default_count", "sscan", "sscan_with_match", "sscan_iter"),
        *("sscan_iter_with_match", "sunion", "sunionstore", "hset", "hdel", "hlen"),
        *("hkeys", "hexists", "hash_version_support", "hash_key_structure_in_redis"),
    )
)
"""django-redis's methods for sets and hashes, which are no values of a cache."""


@dataclass(frozen=True, slots=True)
class PytestSuite:
    """Some test files of a distribution, and what stands where in them.

    Modes: "ours-memory", "ours-redis" and "ours-memcached" put our ``Cache`` in the
    place of Flask-Caching's, "backend" leaves it and puts our backend below it.
    """

    name: str
    source: Pin
    mode: str
    files: tuple[str, ...]
    at_least: int
    timeout_s: float = 240.0
    left_out: tuple[str, ...] = ()
    """Tests of other backends that do not touch ours at all."""
    plugin: str = "inside.flask_plugin"
    imports: tuple[str, ...] = ()
    """What the tests import, the distribution itself included."""


PYTEST_SUITES = {
    suite.name: suite
    for suite in (
        PytestSuite(
            "flask-caching",
            pinned("flask-caching"),
            "ours-redis",
            FLASK_CACHING_FILES,
            at_least=175,
        ),
        PytestSuite(
            "flask-caching-memory",
            pinned("flask-caching"),
            "ours-memory",
            FLASK_CACHING_FILES,
            at_least=175,
        ),
        PytestSuite(
            "flask-caching-memcached",
            pinned("flask-caching"),
            "ours-memcached",
            FLASK_CACHING_FILES,
            at_least=175,
        ),
        PytestSuite(
            "flask-caching-backend",
            pinned("flask-caching"),
            "backend",
            (*FLASK_CACHING_FILES, "test_backend_cache.py"),
            at_least=200,
            left_out=("test_backend_cache.py::TestFileSystemCache",),
        ),
        PytestSuite(
            "cachelib",
            pinned("cachelib"),
            "backend",
            ("test_memcached_cache.py", "test_redis_cache.py", "test_simple_cache.py"),
            at_least=180,
        ),
        PytestSuite(
            "django-redis",
            pinned("django-redis"),
            "ours",
            ("test_backend.py", "test_cache_options.py", "test_session.py"),
            at_least=108,
            plugin="inside.django_redis_plugin",
            imports=("django-redis", "typing-extensions"),
            left_out=STRUCTURES,
        ),
    )
}


def checked(suite: PytestSuite) -> Verdict:
    """Run a suite and hold it against exclusions.toml."""
    return judged(suite, launched(suite), rules_for(suite.name, is_strict=False))


def launched(suite: PytestSuite) -> Report:
    """Run a suite and return what came of it."""
    tests = unpacked(suite.source) / "tests"
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(args=("--databases", str(DATABASES))))
        memcached = stack.enter_context(memcached_server())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report = scratch / "report.json"
        plan = scratch / "plan.json"
        plan.write_text(
            json.dumps(
                {
                    "mode": suite.mode,
                    "location": server.url.rpartition("/")[0],
                    "memcached": memcached.url,
                    "report": str(report),
                }
            )
        )
        imports = [unpacked(pinned(name)) for name in suite.imports]
        path = os.pathsep.join(map(str, (tests, *imports, HERE, REPOSITORY)))
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "pytest", "-q", "--noconftest"),
                *("-c", os.devnull, "--rootdir", str(tests), "-p", "no:cacheprovider"),
                *("-o", "faulthandler_timeout=60"),
                *("-p", suite.plugin, "-p", "inside.outcomes", "-p", "no:django"),
                *suite.files,
                *[f"--deselect={test}" for test in suite.left_out],
            ],
            cwd=tests,
            env={**os.environ, "PYTHONPATH": path, VARIABLE: str(plan)},
            capture_output=True,
            text=True,
            timeout=suite.timeout_s,
            check=False,
        )
        if not report.exists():
            raise SuiteError(f"{suite.name}: no report\n{done.stdout}\n{done.stderr}")
        outcomes = {
            test: (outcome, text)
            for test, (outcome, text) in json.loads(report.read_text()).items()
        }
        return Report(outcomes, {}, commands(server.url), {})
