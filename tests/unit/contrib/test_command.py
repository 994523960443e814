"""``manage.py cachebridge warm`` orders a warm-up of an alias."""

from __future__ import annotations

import io

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command

from cachebridge.engine.warming.lists import ORDERED, decode_list
from tests.rig import PATIENCE_S, l2_of, listening, lone_cache
from tests.unit.django.support import LOCMEM, entry


@pytest.fixture
def cache(set_caches, redis_url, free_port):
    set_caches(
        default={"BACKEND": LOCMEM},
        shop=entry(redis_url, KEY_PREFIX="shop"),
        hashed=entry(redis_url, KEY_FUNCTION=hashed),
        away=entry(f"redis://user:password@127.0.0.1:{free_port}/0"),
    )
    return caches["shop"]


def hashed(key, _prefix, _version):
    return f"{hash(key)}"


def status_of(*arguments):
    """Return the exit status and the text of the error."""
    with pytest.raises(CommandError) as caught:
        call_command("cachebridge", "warm", *arguments)
    return caught.value.returncode, str(caught.value)


def test_keys_and_patterns(cache):
    """The list has the keys as the alias makes them."""
    cache.set_many({"a": 1, "b": 2, "c": 3})
    said = io.StringIO()
    call_command("cachebridge", "warm", "--alias=shop", "b", "a", stdout=said)
    assert "2 of 2 keys exist" in said.getvalue()
    l2 = l2_of(cache)
    assert decode_list(l2.kept_list(ORDERED)) == [("shop:1:", ["b", "a"])]
    call_command("cachebridge", "warm", "--alias=shop", "--pattern=[bc]", stdout=said)
    ((prefix, keys),) = decode_list(l2.kept_list(ORDERED))
    assert (prefix, sorted(keys)) == ("shop:1:", ["b", "c"])


def test_what_goes_wrong(cache):
    """1 for keys that do not exist; 2 for all that cannot be done, without secrets."""
    assert status_of("--alias=shop", "missing")[0] == 1
    assert status_of("a")[0] == 2  # LocMem
    status, text = status_of("--alias=hashed", "a")
    assert (status, "a function makes the keys" in text) == (2, True)
    for arguments in (["a"], ["--pattern=a*"]):
        status, text = status_of("--alias=away", *arguments)
        assert (status, "password" in text) == (2, False)


def test_asking_the_fleet(cache, redis_url):
    """The verbs that ask take an alias, whose keys they make."""
    listener = listening(lone_cache(redis_url, KEY_PREFIX="shop:1:"))
    listener.set("k", 1)
    said = io.StringIO()
    wait = f"--timeout={PATIENCE_S}"
    call_command("cachebridge", "why", "--alias=shop", "k", wait, stdout=said)
    assert "in L1 and trusted" in said.getvalue()
    listener.l1_off()
    with pytest.raises(CommandError, match="not trusted in 1") as caught:
        call_command("cachebridge", "stats", "--alias=shop", wait, stdout=said)
    assert caught.value.returncode == 1
