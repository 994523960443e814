"""Slots: a tag for each, the map as nodes tell it, redirects, and hostile replies."""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import ResponseError

from cachebridge.l2.cluster.slots import (
    MOST_MASTERS,
    SLOTS,
    Redirect,
    SlotMap,
    read_map,
    read_redirect,
    slot_of,
    tags,
)
from cachebridge.resp import NotAReplyError

ASKED = ("10.0.0.9", 6379)
INFO = b"cluster_state:ok\r\ncluster_current_epoch:7\r\n"


def row(first, last, host, port, *rest):
    return [first, last, [host, port, b"id", *rest], [b"replica", 1, b"id"]]


def test_a_tag_for_each_slot():
    """Each tag is in the slot whose tag it is, in braces as alone, and is short."""
    assert len(tags()) == SLOTS
    for slot, tag in enumerate(tags()):
        assert slot_of(b"any{%b}thing" % tag) == slot
    assert max(map(len, tags())) <= 5
    assert tags() is tags()


def test_the_map_of_a_node():
    """Ranges by address; the epoch; whether the node says that the cluster works."""
    rows = [
        row(10, 19, b"10.0.0.2", 1),
        row(0, 9, b"10.0.0.1", 1),
        row(20, SLOTS - 1, b"10.0.0.1", 1, [b"hostname", b"h"]),
    ]
    assert read_map([INFO, rows], ASKED) == SlotMap(
        7,
        True,
        {
            ("10.0.0.1", 1): ((0, 9), (20, SLOTS - 1)),
            ("10.0.0.2", 1): ((10, 19),),
        },
    )
    failing = b"cluster_state:fail\r\ncluster_current_epoch:8\r\n"
    assert read_map([failing, []], ASKED) == SlotMap(8, False, {})
    assert read_map([b"", []], ASKED) == SlotMap(0, False, {})


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"", ASKED[0]),
        (None, ASKED[0]),
        (b"?", ASKED[0]),
        (b"::1", "::1"),
        (b"fe80::1%eth0", "fe80::1%eth0"),
        (b"node-1.example.com", "node-1.example.com"),
    ],
)
def test_hosts(host, name):
    """A node that does not know its host has that at which it was asked."""
    (address,) = read_map([INFO, [row(0, 1, host, 7000)]], ASKED).ranges
    assert address == (name, 7000)


@pytest.mark.parametrize(
    "rows",
    [
        [row(0, 1 << 60, b"h", 1)],
        [row(-1, 1, b"h", 1)],
        [row(2, 1, b"h", 1)],
        [row(0, SLOTS, b"h", 1)],
        [row(0, 1, b"h", 0)],
        [row(0, 1, b"h", 1 << 60)],
        [row(0, 1, b"h", b"1")],
        [row(0, 1, b"h\0", 1)],
        [row(0, 1, b"a b", 1)],
        [row(0, 1, b"\xff", 1)],
        [row(0, 1, b"a..b", 1)],
        [row(0, 1, b"x" * 64, 1)],
        [row(0, 1, b"x." * 200, 1)],
        [row(0, 1, [b"h"], 1)],
        [[0, 1]],
        [[0, 1, []]],
        [b"0"],
        b"rows",
        None,
        7,
        [row(0, 1, b"h%d" % number, 1) for number in range(MOST_MASTERS + 1)],
    ],
    ids=lambda rows: str(rows)[:40],
)
def test_no_map(rows):
    """Whatever a node sends is a map, or the one error for what is none."""
    with pytest.raises(NotAReplyError):
        read_map([INFO, rows], ASKED)


def test_errors_for_a_map():
    """An error reply is raised as it is."""
    refused = redis.exceptions.NoPermissionError("NOPERM no right to 'cluster|slots'")
    with pytest.raises(redis.exceptions.NoPermissionError):
        read_map([INFO, refused], ASKED)
    with pytest.raises(ResponseError, match="disabled"):
        read_map([ResponseError("ERR cluster support disabled"), []], ASKED)
    with pytest.raises(NotAReplyError):
        read_map([7, []], ASKED)


@pytest.mark.parametrize(
    ("text", "redirect"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect("MOVED", 3999, ("127.0.0.1", 6381))),
        ("MOVED 0 ::1:1", Redirect("MOVED", 0, ("::1", 1))),
        (
            "ASK 16383 host.example:65535",
            Redirect("ASK", 16383, ("host.example", 65535)),
        ),
        ("MOVED 3999 :6381", Redirect("MOVED", 3999, ("", 6381))),
        ("MOVED 3999 ?:6381", Redirect("MOVED", 3999, ("", 6381))),
        ("TRYAGAIN Multiple keys request during rehashing", Redirect("TRYAGAIN")),
        ("MOVED 16384 h:1", None),
        ("MOVED 99999 h:1", None),
        ("MOVED 1 h:0", None),
        ("MOVED 1 h:99999", None),
        ("MOVED 1 a b:1", None),
        ("MOVED 1 a..b:1", None),
        ("MOVED 1 h\0:1", None),
        ("MOVED", None),
        ("MOVED x h:1", None),
        ("ERR MOVED 1 h:1", None),
        ("CROSSSLOT Keys in request don't hash to the same slot", None),
        ("", None),
    ],
)
def test_redirects(text, redirect):
    """What redirects is read; whatever else a node says is an error like others."""
    assert read_redirect(ResponseError(text)) == redirect
