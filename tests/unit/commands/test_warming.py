"""``python -m cachebridge warm``: workers get the list, the operator an exit status."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cachebridge.commands import main
from cachebridge.engine.warming.lists import MOST_KEYS, ORDERED, decode_list
from tests.rig import PATIENCE_S, l2_of, lone_cache


def ordered(cache):
    return decode_list(l2_of(cache).kept_list(ORDERED))


def test_keys(redis_url, capsys):
    """Those that exist are listed in the order given, empty values included."""
    cache = lone_cache(redis_url, key_prefix="shop:")
    cache.set_many({"a": 1, "b": ""})
    assert main(["warm", "--key-prefix", "shop:", redis_url, "b", "a"]) == 0
    assert ordered(cache) == [("shop:", ["b", "a"])]
    assert capsys.readouterr().out.startswith("2 of 2 keys exist")


def test_missing_keys(redis_url, capsys):
    """Status 1; without any key the list that was there stays."""
    cache = lone_cache(redis_url)
    cache.set("a", 1)
    assert main(["warm", redis_url, "a", "missing"]) == 1
    assert "1 of 2 keys exist" in capsys.readouterr().err
    assert main(["warm", redis_url, "missing"]) == 1
    assert main(["warm", redis_url, "--pattern", "missing*"]) == 1
    assert "nothing is ordered" in capsys.readouterr().err
    assert ordered(cache) == [("", ["a"])]


def test_a_pattern(redis_url):
    """All keys of the cache that match, and no others."""
    cache = lone_cache(redis_url, key_prefix="shop:")
    cache.set_many({"product:1": 1, "product:2": 2, "page": 3})
    lone_cache(redis_url, key_prefix="other:").set("product:3", 3)
    arguments = ["warm", redis_url, "--key-prefix", "shop:", "--pattern", "product:*"]
    assert main(arguments) == 0
    ((prefix, keys),) = ordered(cache)
    assert (prefix, sorted(keys)) == ("shop:", ["product:1", "product:2"])


def test_too_many_keys(redis_url, capsys):
    """A pattern that matches more than a list holds orders nothing."""
    cache = lone_cache(redis_url)
    cache.set_many({f"{n}": n for n in range(MOST_KEYS + 1)})
    assert main(["warm", redis_url, "--pattern", "*"]) == 2
    assert f"pattern '*' matches more keys than one list allows, {MOST_KEYS}" in (
        capsys.readouterr().err
    )
    names = ["x" * 60_000 + str(n) for n in range(10)]
    cache.set_many(dict.fromkeys(names, 1))
    assert main(["warm", redis_url, *names]) == 2
    assert "keys are too many for one list: 10" in capsys.readouterr().err
    assert ordered(cache) == []


@pytest.mark.parametrize(
    "arguments",
    [["a"], ["--pattern", "a*"]],
)
def test_no_server(free_port, arguments, capsys):
    """Status 2, and why."""
    assert main(["warm", f"redis://127.0.0.1:{free_port}/0", *arguments]) == 2
    assert "127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a", "--pattern", "b"], ["--pattern", ""]])
def test_what_cannot_be_meant(redis_url, arguments, capsys):
    """Status 2, and what is wrong."""
    assert main(["warm", redis_url, *arguments]) == 2
    assert "pattern" in capsys.readouterr().err


def test_memcached(shared_memcached, capsys):
    """Keys are fine; a pattern is an error."""
    cache = lone_cache(shared_memcached.url, bus="none", key_prefix="commands:")
    cache.set("a", 1)
    warm = ["warm", "--key-prefix", "commands:", shared_memcached.url]
    assert main([*warm, "a"]) == 0
    assert ordered(cache) == [("commands:", ["a"])]
    assert main([*warm, "--pattern", "*"]) == 2
    assert "Memcached cannot list" in capsys.readouterr().err


@pytest.mark.parametrize("has_rich", [True, False])
def test_as_a_command(redis_url, has_rich, tmp_path):
    """It shows its progress on standard error, with rich and without."""
    if has_rich:
        pytest.importorskip("rich", reason="draws the progress bar")
    else:
        (tmp_path / "rich.py").write_text("raise ImportError")
    lone_cache(redis_url).set("a", 1)
    done = subprocess.run(
        [sys.executable, "-m", "cachebridge", "warm", redis_url, "a"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 of 1 keys exist: workers with L1_WARM read them.\n"
    assert ("100%" if has_rich else "1 of 1 keys") in done.stderr
