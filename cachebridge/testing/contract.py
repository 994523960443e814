"""``python -m cachebridge.testing.contract URL``: what a server can do for cachebridge.

Runs the contract of stores, and two caches, over a server of any kind, and prints one
row of a table in Markdown; what fails and why goes to standard error.

Exit status: 0 all that is asked of the server holds, 1 it does not, 2 it was not asked:
no connection, an unusable URL, or no pytest.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import CacheBridgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachebridge.testing.contracts.place import Place

HOLDS, FAILS, NOT_ASKED = 0, 1, 2
CONTRACTS: Final = "cachebridge.testing.contracts"
NEEDS_PYTEST: Final = "The contract is a suite of pytest: pip install pytest"
SHOWN: Final = 300
"""Characters of a reason; a cell has fewer."""
SHOWN_IN_CELL: Final = 80

SIZE: Final = "a value of 1 MiB"
FEATURES: Final = {
    SIZE: r"test_odd_values\[b'x",
    "leases, copies, marks of absence": r"L2LoadContract\.",
    "publish/subscribe": r"publish|message",
    "coherent L1": r"heartbeats|coherent_l1",
    "switch of the fleet": r"switch",
    "counters": r"L2CountContract\.(?!.*twice)|incr(?!.*loses)",
    "atomic steps": r"winner|loses|twice|test_replace",
    "batches": r"many",
    "finding and clearing keys": r"scan|clear|flush|record",
    "late deletes, warm-up lists": r"older|lists",
    "reads, writes, TTLs": r"",
}
"""The columns, and which tests belong to each: the first whose pattern is found."""
NOT_NEEDED: Final = {SIZE}
"""What a server may lack."""


def feature_of(name: str) -> str:
    """Return the column of a test, by its qualified name and its parameters."""
    return next(each for each, pattern in FEATURES.items() if re.search(pattern, name))


class Report:
    """Plugs into pytest: counts what holds."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.failed: dict[str, dict[str, list[str]]] = {}
        """For each feature and reason the tests that failed."""
        self.skipped: dict[str, str] = {}
        self._features: dict[str, str] = {}

    def pytest_configure(self, config: Any) -> None:
        """Have failures of the contract explained; its modules are imported later."""
        import pytest  # noqa: PLC0415 not needed to install cachebridge

        config.option.tbstyle = "native"  # fast: only the last line is shown
        for name in ("store", "load", "count", "message", "tag"):
            pytest.register_assert_rewrite(f"{CONTRACTS}.{name}_contract")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Note what each test is about."""
        for item in items:
            owner = item.function.__qualname__.partition(".")[0]
            self._features[item.nodeid] = feature_of(f"{owner}.{item.name}")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count one step of a test."""
        feature = self._features[report.nodeid]
        if report.failed:
            tests = self.failed.setdefault(feature, {}).setdefault(_reason(report), [])
            tests.append(report.nodeid.partition("::")[2])
        elif report.skipped:
            self.skipped[feature] = report.longrepr[2].removeprefix("Skipped: ")
        elif report.when == "call":
            self.held[feature] += 1

    def cell(self, feature: str) -> str:
        """Say in words whether a feature is there."""
        held, reasons = self.held[feature], self.failed.get(feature, {})
        failed = sum(map(len, reasons.values()))
        if failed:
            return f"no: {failed} of {held + failed} tests fail" if held else "no"
        why = self.skipped.get(feature, "")[:SHOWN_IN_CELL]
        if not held:
            return f"not tested: {why}"
        return f"yes; the rest not tested: {why}" if why else "yes"

    def explain(self) -> None:
        """Say on standard error what failed and why."""
        for feature, reasons in self.failed.items():
            for reason, tests in reasons.items():
                more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
                _tell(f"{feature}: {tests[0]}{more}: {reason}")

    @property
    def holds(self) -> bool:
        """Whether all is there that a plain server must offer."""
        return not self.failed.keys() - NOT_NEEDED


def _reason(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return text.partition("\n")[0].removeprefix("cachebridge.errors.")[:SHOWN]


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cachebridge.testing.contract",
        description="Run the contract of shared stores over a server, and print a row "
        "that says what works. Keys stand under a prefix of the run, and are deleted.",
    )
    parser.add_argument("url", metavar="URL", help="the LOCATION of a cache")
    parser.add_argument("--bus", metavar="URL", help="its BUS_LOCATION, if it has one")
    parser.add_argument(
        "--key-prefix",
        default=f"contract:{secrets.token_hex(6)}:",
        help="what the keys begin with, if the account may not write any",
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, help="SOCKET_TIMEOUT, in seconds"
    )
    parser.add_argument(
        "--flush",
        action="store_true",
        help="also try what empties the whole database: EVERY KEY IN IT IS LOST",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the contract; return the exit status."""
    given = _parse(arguments)
    if find_spec("pytest") is None:
        _tell(NEEDS_PYTEST)
        return NOT_ASKED
    import pytest  # noqa: PLC0415 not needed to install cachebridge

    from cachebridge.testing.contracts.place import Place  # noqa: PLC0415

    options: dict[str, object] = {
        "SOCKET_TIMEOUT": given.timeout,
        "SOCKET_CONNECT_TIMEOUT": given.timeout,
    }
    if given.bus:
        options["BUS_LOCATION"] = given.bus
    try:
        place = Place(
            given.url, prefix=given.key_prefix, may_flush=given.flush, **options
        )
        name = place.open()
    except CacheBridgeError as exc:
        _tell(str(exc))
        return NOT_ASKED

    class Plugin(Report):
        @pytest.fixture(scope="session")
        def place(self) -> Place:
            return place

    report = Plugin()
    try:
        status = _run(pytest, report)
    finally:
        left = place.close()
    if left:
        _tell(f"{left} keys may be left: {given.key_prefix}*")
    if status not in {HOLDS, FAILS}:
        _tell("pytest has not run the contract")
        return NOT_ASKED
    report.explain()
    columns = sorted(FEATURES, key=list(FEATURES)[::-1].index)
    cells = [f"{name} `{place.label}`".strip(), *map(report.cell, columns)]
    lines = [["server", *columns], ["---"] * len(cells), cells]
    sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)
    return HOLDS if report.holds else FAILS


def _run(pytest: Any, report: Report) -> int:
    """Run the suite, whatever project the command is called in."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    folder = Path(__file__).parent / "contracts"
    quiet = ("-p", "no:terminal", "-p", "no:cacheprovider", "--noconftest")
    where = ("-c", os.devnull, "--rootdir", str(folder), str(folder / "any_server.py"))
    return int(pytest.main([*quiet, *where], plugins=[report]))


if __name__ == "__main__":
    sys.exit(main())
