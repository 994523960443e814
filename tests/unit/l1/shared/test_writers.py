"""Writers that die, stop or race, as processes of their own: ``writers.py``."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.children import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run(what: str, directory: Path, count: int) -> str:
    command = [sys.executable, "-m", "tests.unit.l1.shared.writers"]
    done = subprocess.run(
        [*command, what, str(directory), str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize(
    "count", [3, pytest.param(200, marks=pytest.mark.proof, id="many")]
)
def test_writers_may_be_killed_at_any_instant(tmp_path: Path, count: int) -> None:
    """What they leave can be read, walked and written to; no lock outlives them."""
    run("kill_at_random", tmp_path, count)


@pytest.mark.parametrize(
    "count", [1, pytest.param(20, marks=pytest.mark.proof, id="many")]
)
def test_writers_may_be_killed_between_any_two_steps(
    tmp_path: Path, count: int
) -> None:
    """The same, at each of the chosen places."""
    run("kill_at_stages", tmp_path, count)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "count", [3000, pytest.param(10_000_000, marks=pytest.mark.proof, id="many")]
)
def test_no_read_is_torn(tmp_path: Path, count: int) -> None:
    """While two processes write around the ring, each read is of one entry."""
    run("read_torn", tmp_path, count)


def test_stopped_owner_of_the_lock_stops_no_other(tmp_path: Path) -> None:
    """Others read, and wait for the lock no longer than they want to."""
    run("stop_owner", tmp_path, 1)
