"""What makes a suite fail: each rule of the judge on a small report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.proofs.suites.catalog import SUITES, Suite
from tests.proofs.suites.judge import (
    Exclusion,
    Rules,
    Uncached,
    judged,
    locmem_labels,
    locmem_problems,
    rules_for,
)
from tests.proofs.suites.launch import Report
from tests.proofs.suites.sources import Pin

SUITE = Suite("example", Pin("example", "1"), "settings", ("tests",), at_least=2)
CULLING = Exclusion(("example",), ("tests.Cull.*",), "failed", "no culling")
KEYS = Uncached(("example",), ("tests.Keys",), "makes keys only")
REPORT = Report(
    outcomes={
        "tests.Cull.test_full": ("failed", "why"),
        "tests.Get.test": ("passed", ""),
    },
    operations={"tests.Cull.test_full": 3, "tests.Get.test": 2},
    server_commands=5,
    facts={},
)


def problems(report: Report, *rules: Exclusion | Uncached) -> tuple[str, ...]:
    return judged(
        SUITE,
        report,
        Rules(
            tuple(rule for rule in rules if isinstance(rule, Exclusion)),
            tuple(rule for rule in rules if isinstance(rule, Uncached)),
        ),
    ).problems


def with_outcome(test: str, outcome: str, operations: int = 1) -> Report:
    return replace(
        REPORT,
        outcomes=REPORT.outcomes | {test: (outcome, "the reason")},
        operations=REPORT.operations | {test: operations},
    )


def test_excluded_failure_is_no_problem():
    """A test that fails as listed is counted, and nothing is wrong."""
    verdict = judged(SUITE, REPORT, Rules((CULLING,)))
    assert verdict.problems == ()
    assert (verdict.ran, verdict.passed, verdict.excluded) == (2, 1, 1)


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_anything_else_that_does_not_pass_is_a_problem(outcome: str):
    """Neither a failure nor a skip goes unlisted, and its text is shown."""
    (problem,) = problems(with_outcome("tests.Get.test_b", outcome), CULLING)
    assert problem == f"tests.Get.test_b {outcome}:\nthe reason"


def test_exclusion_of_a_test_that_passes_is_stale():
    """An exclusion must go when its test passes."""
    (problem,) = problems(with_outcome("tests.Cull.test_full", "passed"), CULLING)
    assert "is excluded as failed, but it passed" in problem


def test_exclusion_of_a_failure_does_not_cover_a_skip():
    """A listed failure that turns into a skip is looked at again."""
    (problem,) = problems(with_outcome("tests.Cull.test_full", "skipped"), CULLING)
    assert "excluded as failed, but it skipped" in problem


def test_exclusion_without_a_test_is_stale():
    """An exclusion must go when its test is gone or renamed."""
    gone = replace(CULLING, tests=("tests.Gone.test",))
    (problem,) = problems(REPORT, CULLING, gone)
    assert problem == "tests.Gone.test is excluded, but there is no such test"


def test_class_that_never_used_the_backend_is_a_problem():
    """Tests that something else served prove nothing."""
    (problem,) = problems(with_outcome("tests.Keys.test", "passed", 0), CULLING)
    assert problem == "tests.Keys never used the backend under test"


def test_listed_class_may_do_without_the_backend():
    """A class that has nothing to cache is listed once."""
    assert not problems(with_outcome("tests.Keys.test", "passed", 0), CULLING, KEYS)


def test_listed_class_that_uses_the_backend_is_stale():
    """The list does not hide a class that could be held to the rule."""
    (problem,) = problems(with_outcome("tests.Keys.test", "passed", 1), CULLING, KEYS)
    assert problem == "tests.Keys is listed as not using the cache, but it does"


def test_listed_class_that_is_gone_is_stale():
    """The list names only what runs."""
    (problem,) = problems(REPORT, CULLING, KEYS)
    assert "there is no such class" in problem


def test_idle_server_is_a_problem():
    """A backend that never talked to its server was not the one under test."""
    (problem,) = problems(replace(REPORT, server_commands=0), CULLING)
    assert problem == "the Redis server saw no command"


WATCHED = replace(SUITE, watches_l1=True, remote_writes=True)


@pytest.mark.parametrize(
    ("facts", "complaints"),
    [
        ({"L1 hits": 3, "messages sent": 0}, ()),
        ({"L1 hits": 0, "messages sent": 0}, ("L1 answered no read of a test",)),
        (
            {"L1 hits": 3, "messages sent": 1},
            ("this process has written, not only the other one",),
        ),
    ],
)
def test_watched_suite_reads_from_l1_and_writes_elsewhere(
    facts: dict[str, int], complaints: tuple[str, ...]
):
    """Coherence is only shown by reads that L1 answers and writes it did not see."""
    verdict = judged(WATCHED, replace(REPORT, facts=facts), Rules((CULLING,)))
    assert verdict.problems == complaints


def test_missing_tests_are_a_problem():
    """A distribution without its tests does not pass."""
    few = replace(REPORT, outcomes={"tests.Get.test": ("passed", "")})
    (problem,) = problems(few)
    assert problem == "only 1 tests ran, not 2"


def test_failure_said_to_be_locmem_s_too_must_be():
    """The excuse that Django's own backend fails as well is checked."""
    rules = Rules((replace(CULLING, fails_on_locmem=True),))
    assert locmem_labels(REPORT, rules) == ("tests.Cull.test_full",)
    assert not locmem_problems(REPORT, rules)
    passing = with_outcome("tests.Cull.test_full", "passed")
    (problem,) = locmem_problems(passing, rules)
    assert problem.endswith("but it passed there")


@pytest.mark.parametrize("name", SUITES)
def test_every_rule_gives_its_reason(name: str):
    """The committed list can be read, and says why."""
    rules = rules_for(name)
    for rule in (*rules.exclusions, *rules.uncached):
        assert len(rule.reason.strip()) > 20
