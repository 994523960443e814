"""What a benchmark run says of itself, and the tables that are made of it."""

from __future__ import annotations

import json

import pytest

from benchmarks import machine, report
from benchmarks.report import BUSY, Limit, Row
from tools import bench_tables

FIGURES = {"django-redis": [2e-4, 4e-4, 3e-4], "cachebridge": [1e-4, 1e-4, 1e-4]}


def row(name="T6", ok=True):
    limit = Limit("cachebridge", "django-redis", 1.0 if ok else 0.1, "at most", "less")
    return Row(name, "set", "s", FIGURES, [limit.judge(FIGURES)])


def run_of(tmp_path, *rows):
    path = tmp_path / "run.json"
    report.write_json(rows, {"cores": "2"}, path)
    return json.loads(path.read_text())


def test_no_verdict_while_the_machine_is_busy(tmp_path):
    """Neither good nor bad: figures, ratio and range stay."""
    for judged in (row(), row(ok=False)):
        refused = judged.unjudged()
        assert refused.is_refused
        assert not refused.missed
        assert not judged.is_refused
        text = report.text(refused)
        assert BUSY in text
        assert "0.333x (0.25..0.5)" in text
        assert "MISSED" not in text
        (found,) = run_of(tmp_path, refused)["rows"]
        assert bench_tables.is_refused(found)


def test_how_busy_it_is():
    """A share of all cores; the machine is named."""
    assert 0 <= machine.busy_share(0.01) <= 1
    assert {"processor", "cores", "others' share of the cores"} <= {
        *machine.described()
    }


def test_tables(tmp_path):
    """A line for each row, with ratio, range and verdict, between the marks."""
    run = run_of(tmp_path, row(), row("T9", ok=False), row("Q"))
    lines = bench_tables.table(run, ("T9", "T6", "none")).splitlines()
    assert lines[2:4] == [
        "| T9 | set |  |  | 300 µs | 100 µs |  | 0.333x (0.25..0.5), less **missed** |",
        "| T6 | set |  |  | 300 µs | 100 µs |  | 0.333x (0.25..0.5), less ok |",
    ]
    assert lines[-1] == "Measured on: cores 2."
    assert len(bench_tables.table(run).splitlines()) == 7
    page = f"a\n{bench_tables.BEGIN}\nold\n{bench_tables.END}\nb\n"
    written = bench_tables.with_table(page, "new")
    assert written == f"a\n{bench_tables.BEGIN}\nnew\n{bench_tables.END}\nb\n"
    assert bench_tables.with_table(written, "new") == written
    with pytest.raises(ValueError, match="there must be"):
        bench_tables.with_table("no marks", "new")
