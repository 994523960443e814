"""Holds a report against exclusions.toml: what passed, what may fail, what may not."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tests.proofs.suites.sources import HERE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.proofs.suites.catalog import Suite
    from tests.proofs.suites.launch import Report

EXCLUSIONS = HERE / "exclusions.toml"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Tests that do not pass, and why that is right."""

    suites: tuple[str, ...]
    tests: tuple[str, ...]
    outcome: str
    reason: str
    fails_on_locmem: bool = False


@dataclass(frozen=True, slots=True)
class Uncached:
    """Test classes of a suite that never use the cache, and why they are run."""

    suites: tuple[str, ...]
    classes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What exclusions.toml says of one suite.

    Without being strict nothing is asked of a run but that its tests pass.
    """

    exclusions: tuple[Exclusion, ...] = ()
    uncached: tuple[Uncached, ...] = ()
    is_strict: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The line of one suite in the table, and everything wrong with it."""

    suite: str
    ran: int
    passed: int
    excluded: int
    problems: tuple[str, ...]
    facts: dict[str, int]


def rules_for(suite: str, *, is_strict: bool = True) -> Rules:
    """Read the rules of one suite."""
    rules = tomllib.loads(EXCLUSIONS.read_text())
    return Rules(
        tuple(
            Exclusion(**rule) for rule in rules["exclude"] if suite in rule["suites"]
        ),
        tuple(
            Uncached(**rule) for rule in rules["uncached"] if suite in rule["suites"]
        ),
        is_strict,
    )


def judged(suite: Suite, report: Report, rules: Rules) -> Verdict:
    """Return the verdict on a report."""
    outcomes = report.outcomes
    excluded = _excluded(outcomes, rules)
    problems = [
        *_failures(report, excluded),
        *_stale(excluded, outcomes, rules),
        *(_unserved(suite, report, rules) if rules.is_strict else ()),
    ]
    if len(outcomes) < suite.at_least:
        problems.append(f"only {len(outcomes)} tests ran, not {suite.at_least}")
    passed = sum(outcome == "passed" for outcome, _ in outcomes.values())
    return Verdict(
        suite=suite.name,
        ran=len(outcomes),
        passed=passed,
        excluded=len(excluded),
        problems=tuple(problems),
        facts=report.facts | {"server commands": report.server_commands},
    )


def locmem_labels(report: Report, rules: Rules) -> tuple[str, ...]:
    """Return the excluded tests that are said to fail with LocMemCache as well."""
    return tuple(
        test
        for test, rule in _excluded(report.outcomes, rules).items()
        if rule.fails_on_locmem
    )


def locmem_problems(report: Report, rules: Rules) -> tuple[str, ...]:
    """Return which of those do not, going by a report of them with LocMemCache."""
    return tuple(
        f"{test} is excluded as {rule.outcome} with LocMemCache too, but it "
        f"{report.outcomes[test][0]} there"
        for test, rule in _excluded(report.outcomes, rules).items()
        if report.outcomes[test][0] != rule.outcome
    )


def _excluded(
    outcomes: dict[str, tuple[str, str]], rules: Rules
) -> dict[str, Exclusion]:
    return {
        test: rule
        for rule in rules.exclusions
        for pattern in rule.tests
        for test in _matching(pattern, outcomes)
    }


def _matching(pattern: str, tests: Iterable[str]) -> list[str]:
    return [test for test in tests if fnmatchcase(test, pattern)]


def _failures(report: Report, excluded: dict[str, Exclusion]) -> Iterable[str]:
    for test, (outcome, text) in report.outcomes.items():
        if outcome != "passed" and test not in excluded:
            yield f"{test} {outcome}:\n{text}"


def _stale(
    excluded: dict[str, Exclusion],
    outcomes: dict[str, tuple[str, str]],
    rules: Rules,
) -> Iterable[str]:
    """Yield exclusions that have lost their object or their reason."""
    for rule in rules.exclusions:
        for pattern in rule.tests:
            if not _matching(pattern, outcomes):
                yield f"{pattern} is excluded, but there is no such test"
    for test, rule in excluded.items():
        outcome, text = outcomes[test]
        if outcome != rule.outcome:
            yield f"{test} is excluded as {rule.outcome}, but it {outcome}:\n{text}"


def _unserved(suite: Suite, report: Report, rules: Rules) -> Iterable[str]:
    """Yield what our backend has not served as it should have."""
    if report.server_commands == 0:
        yield "the Redis server saw no command"
    if suite.watches_l1 and not report.facts["L1 hits"]:
        yield "L1 answered no read of a test"
    if suite.remote_writes and report.facts["messages sent"]:
        yield "this process has written, not only the other one"
    yield from _uncached(report, rules)


def _uncached(report: Report, rules: Rules) -> Iterable[str]:
    """Yield test classes that did without the cache, against the list."""
    used: Counter[str] = Counter()
    for test in report.outcomes:
        used[test.rpartition(".")[0]] += report.operations.get(test, 0)
    listed = {name for rule in rules.uncached for name in rule.classes}
    for name in sorted(used.keys() | listed):
        if name not in used:
            yield f"{name} is listed as not using the cache, but there is no such class"
        elif name in listed and used[name]:
            yield f"{name} is listed as not using the cache, but it does"
        elif name not in listed and not used[name]:
            yield f"{name} never used the backend under test"
