"""Owed deletes: paid before anything else is asked, and without a queue of payers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge.engine.debts import Debts
from cachebridge.errors import L2UnavailableError


def test_those_who_wait_for_a_payment_share_its_failure():
    """A payment that fails has failed for all who waited: they do not try in turn."""
    debts = Debts()
    debts.owe(["k"], None)
    trying, goes_on, tries = threading.Event(), threading.Event(), []

    def delete(_keys):
        tries.append(1)
        trying.set()
        assert goes_on.wait(5)
        raise L2UnavailableError("away") from OSError("no route")

    def pay():
        with pytest.raises(L2UnavailableError, match="away") as raised:
            debts.pay(delete, lambda _pattern: None, lambda: None)
        return raised.value

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(pay)
        assert trying.wait(5)
        others = [pool.submit(pay) for _ in range(7)]
        time.sleep(0.05)  # whoever comes later tries anew, which is right, too
        goes_on.set()
        errors = [each.result(5) for each in (first, *others)]
    assert len(tries) == 1
    assert len(set(map(id, errors))) == len(errors)
    assert all(isinstance(error.__cause__, OSError) for error in errors)
    assert debts.concern(["k"])


def test_a_payment_is_tried_again_by_who_comes_later():
    """One failure is not the last word."""
    debts = Debts()
    debts.owe(["k"], None)
    answers = [L2UnavailableError("away"), None]

    def delete(_keys):
        if (answer := answers.pop(0)) is not None:
            raise answer

    with pytest.raises(L2UnavailableError):
        debts.pay(delete, lambda _pattern: None, lambda: None)
    debts.pay(delete, lambda _pattern: None, lambda: None)
    assert not debts
