"""Runs foreign tests under Django's test runner and writes down how each one ended."""

from __future__ import annotations

import faulthandler
import json
import os
import unittest
from pathlib import Path
from typing import Any

import django
from django.test.runner import DiscoverRunner
from inside.plan import Plan, current
from inside.substitute import count_operations, performed, substitution
from inside.watch import Watch


class Recorder(unittest.TestResult):
    """Keeps one outcome per test, and how often each test used the cache."""

    def __init__(self, watch: Watch | None) -> None:
        super().__init__()
        self.outcomes: dict[str, tuple[str, str]] = {}
        self.operations: dict[str, int] = {}
        self._before = 0
        self._watch = watch

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's
        super().startTest(test)
        if self._watch:
            self._watch.begin()
        self._before = performed.total()

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's
        self.operations[test.id()] = performed.total() - self._before
        # A test that ends without a word has only had subtests, and all of them passed.
        self.outcomes.setdefault(test.id(), ("passed", ""))
        if self._watch:
            self._watch.end()
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's
        self.outcomes.setdefault(test.id(), ("passed", ""))

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest's
        self._keep(test, "failed", self._exc_info_to_string(err, test))

    addFailure = addError  # noqa: N815 - unittest's

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802 - unittest's
        self._keep(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        self._keep(test, "passed", "")

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802 - unittest's
        self._keep(test, "failed", "expected to fail upstream, but passed")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            text = self._exc_info_to_string(err, subtest)
            self._keep(test, "failed", f"{subtest}\n{text}")

    def _keep(self, test: Any, outcome: str, text: str) -> None:
        if self.outcomes.get(test.id(), ("",))[0] != "failed":
            self.outcomes[test.id()] = (outcome, text)


class Runner(DiscoverRunner):
    """Django's runner with a Recorder in the place of the printed dots."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(verbosity=0, interactive=False)
        self.recorder = recorder

    def run_suite(self, suite: unittest.TestSuite, **_kwargs: Any) -> Recorder:
        suite.run(self.recorder)
        return self.recorder

    def suite_result(self, *_args: Any, **_kwargs: Any) -> int:
        return 0


def run(plan: Plan) -> None:
    """Carry out the plan and write its report."""
    # Shortly before the parent gives up: where everything hangs.
    faulthandler.dump_traceback_later(0.9 * plan.timeout_s)
    substitution.install()
    os.environ["DJANGO_SETTINGS_MODULE"] = plan.settings
    django.setup()
    count_operations(plan.serving)
    watch = Watch(plan) if plan.watches_l1 else None
    recorder = Recorder(watch)
    Runner(recorder).run_tests(plan.labels)
    facts = {"calls": sum(recorder.operations.values())}
    if watch:
        facts |= {"L1 hits": watch.l1_hits, "messages sent": watch.messages_sent}
    report = {
        "outcomes": recorder.outcomes,
        "operations": recorder.operations,
        "facts": facts,
    }
    Path(plan.report).write_text(json.dumps(report))


if __name__ == "__main__":
    run(current())
