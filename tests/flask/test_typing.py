"""Type checkers see the decorated functions as they are."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_decorators_keep_the_types(tmp_path):
    """Arguments, results, methods of objects; every ignore in the file is needed."""
    api = pytest.importorskip("mypy.api", reason="checks types with mypy")
    checked = Path(__file__).with_name("typed_use.py")
    report, errors, status = api.run(
        [
            *("--strict", "--warn-unused-ignores", "--config-file", ""),
            *("--cache-dir", str(tmp_path), str(checked)),
        ]
    )
    assert status == 0, report + errors
