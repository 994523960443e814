"""Reads while signals strike at any instruction; ends with an error on a wrong reply.

``python -m tests.l2.struck_reader URL STRIKES``.  A program of its own: the same would
strike a test runner, or a coverage measurement, inside of its own locks.
"""

from __future__ import annotations

import random
import signal
import sys
import warnings

from tests.l2.conftest import open_store
from tests.l2.test_interruption import Interrupt, read_one


def strike(*_: object) -> None:
    raise Interrupt


def main() -> None:
    url, wanted = sys.argv[1:]
    store = open_store(url)
    chance = random.Random(7)
    # A signal may also strike inside of a finalizer, where Python can only report it.
    warnings.simplefilter("ignore", ResourceWarning)
    sys.unraisablehook = lambda _report: None
    signal.signal(signal.SIGALRM, strike)
    strikes = 0
    while strikes < int(wanted):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(2e-5, 6e-4))
            for _ in range(200):
                read_one(store, chance)
        except Interrupt:
            strikes += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    for _ in range(100):
        read_one(store, chance)
    print(strikes)


if __name__ == "__main__":
    main()
