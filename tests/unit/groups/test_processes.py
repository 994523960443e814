"""Groups of two processes: what one is loading, the other does not load."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.children import Child
from tests.rig import PATIENT
from tests.stores import EVERY, make_place


class Worker:
    """One process; see ``worker.py``."""

    def __init__(self, name, place):
        self._name = name
        self._child = Child(
            [
                *(sys.executable, "-m", "tests.unit.groups.worker"),
                *(place.location, json.dumps({**PATIENT, **place.options})),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        assert self.heard() == {"ready": True}
        return self

    def __exit__(self, *_exc):
        self._child.end()

    def order(self, method, arg, *, is_held=False):
        self.say(
            json.dumps(
                {"method": method, "arg": arg, "is_held": is_held, "name": self._name}
            )
        )

    def say(self, line=""):
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def heard(self):
        return json.loads(self._child.line())


@pytest.fixture(params=EVERY)
def workers(request, redis_url):
    """Return two processes on one shared level."""
    place = make_place(request, request.param, redis_url)
    with Worker("one", place) as one, Worker("two", place) as two:
        yield one, two


def test_one_argument(workers):
    """The second process waits for the first, and gets its value."""
    one, two = workers
    one.order("get", 1, is_held=True)
    assert one.heard() == {"loading": [1]}
    two.order("get", 1)
    time.sleep(0.1)  # the second comes to wait: if it is late, it finds the value
    one.say()
    assert one.heard() == two.heard() == {"found": [1, "one"]}


def test_batches_that_overlap(workers):
    """Each argument is loaded by one of the two, also if they want them in turn."""
    one, two = workers
    one.order("get_many", [3, 1, 2], is_held=True)
    assert one.heard() == {"loading": [1, 2, 3]}
    two.order("get_many", [4, 3, 2])
    time.sleep(0.1)  # as above
    one.say()
    assert one.heard() == {"found": [[each, [each, "one"]] for each in (3, 1, 2)]}
    assert two.heard() == {"loading": [4]}
    assert two.heard() == {"found": [[4, [4, "two"]], [3, [3, "one"]], [2, [2, "one"]]]}


def test_invalidated_while_another_process_loads(workers):
    """What it has loaded is returned there, and not kept."""
    one, two = workers
    one.order("get_many", [1, 2], is_held=True)
    assert one.heard() == {"loading": [1, 2]}
    two.order("invalidate", 1)
    assert two.heard() == {"found": False}
    one.say()
    assert one.heard() == {"found": [[1, [1, "one"]], [2, [2, "one"]]]}
    two.order("get_many", [1, 2])
    assert two.heard() == {"loading": [1]}
    assert two.heard() == {"found": [[1, [1, "two"]], [2, [2, "one"]]]}


def test_refresh_while_another_process_loads(workers):
    """It does not wait for what was begun before, nor is it overwritten by it."""
    one, two = workers
    one.order("get", 1, is_held=True)
    assert one.heard() == {"loading": [1]}
    two.order("refresh", 1)
    assert two.heard() == {"loading": [1]}
    assert two.heard() == {"found": [1, "two"]}
    one.say()
    assert one.heard() in ({"found": [1, "one"]}, {"found": [1, "two"]})
    two.order("get", 1)
    assert two.heard() == {"found": [1, "two"]}
