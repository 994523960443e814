"""`python -m tests.proofs.suites [name ...]`: run suites, print a table."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from cachebridge.testing import ServerNotFoundError
from tests.proofs.suites.catalog import SUITES, Suite
from tests.proofs.suites.checked import checked
from tests.proofs.suites.judge import Verdict
from tests.proofs.suites.launch import CACHEBRIDGE, SuiteError
from tests.proofs.suites.sources import SourceError

# Most of the time the tests sleep until something expires.
AT_ONCE = 6
ROW = "{:<22}{:>6}{:>8}{:>10}{:>8}  {}"


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.suites")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(SUITES))
    parser.add_argument("--backend", default=CACHEBRIDGE, help="dotted path")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - SUITES.keys()
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    suites = [SUITES[name] for name in chosen.names or SUITES]
    # django-debug-toolbar is unpacked for two of them; sources.py can bear the race.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        verdicts = list(pool.map(lambda suite: _verdict(suite, chosen.backend), suites))
    _print_table(verdicts)
    return int(any(verdict.problems for verdict in verdicts))


def _verdict(suite: Suite, backend: str) -> Verdict:
    try:
        return checked(suite, backend)
    except (ServerNotFoundError, SourceError, SuiteError) as exc:
        return Verdict(suite.name, 0, 0, 0, (str(exc),), {})


def _print_table(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        for problem in verdict.problems:
            print(f"{verdict.suite}: {problem}\n")
    print(ROW.format("suite", "ran", "passed", "excluded", "failed", "served"))
    for verdict in verdicts:
        served = ", ".join(f"{value} {fact}" for fact, value in verdict.facts.items())
        print(
            ROW.format(
                verdict.suite,
                verdict.ran,
                verdict.passed,
                verdict.excluded,
                len(verdict.problems),
                served,
            )
        )


if __name__ == "__main__":
    sys.exit(main())
