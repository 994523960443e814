"""Lists of keys: any key survives, the size is bounded, garbage is an empty list."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachebridge.engine.warming.lists import (
    MOST_BYTES,
    decode_list,
    encode_list,
    first_keys,
    name_of_host,
)

KEYS = st.text(st.characters(codec=None), max_size=5)  # with lone surrogates
RUNS = st.lists(st.tuples(KEYS, st.lists(KEYS, max_size=5)), max_size=4)


@given(RUNS)
def test_there_and_back(runs):
    """What is decoded is what was encoded, in its order."""
    assert decode_list(encode_list(runs)) == runs


@given(RUNS, st.integers(-1, 25))
def test_the_first_keys(runs, count):
    """They are the first, whatever their prefix."""
    pairs = [(prefix, key) for prefix, keys in runs for key in keys]
    kept = [(prefix, key) for prefix, keys in first_keys(runs, count) for key in keys]
    assert kept == pairs[: max(0, count)]


def test_a_long_list_loses_its_end():
    """It is never longer than its bound, and begins as before."""
    keys = [f"{n:0200d}" for n in range(20_000)]
    raw = encode_list([("a:", keys[:10]), ("b:", keys[10:])])
    assert MOST_BYTES // 4 < len(raw) <= MOST_BYTES
    (_, first), (_, rest) = decode_list(raw)
    assert first + rest == keys[: 10 + len(rest)]
    assert decode_list(encode_list([("p" * MOST_BYTES, ["key"])])) == []


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"\xff\xfe",
        b"5",
        b"null",
        b"{}",
        b'{"ab": 1}',
        b"[[]]",
        b'["ab"]',
        b'[["a", "bc"]]',
        b'[["a", [1]]]',
        b'[[1, ["a"]]]',
        b'[["a", ["b"], 1]]',
        b"[" * 100_000,
        json.dumps([["a", ["b" * MOST_BYTES]]]).encode(),
    ],
)
def test_garbage(raw):
    """Other programs may write to L2: what is no list is an empty one."""
    assert decode_list(raw) == []


def test_the_name_of_a_host():
    """It is one that every store takes, and always the same."""
    assert name_of_host().isalnum()
    assert name_of_host().islower() or name_of_host().isdigit()
    assert name_of_host() == name_of_host()
