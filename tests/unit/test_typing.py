"""Type checkers see decorated functions and groups as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

USES = [
    str(Path(__file__).parent / part / "typed_use.py") for part in ("flask", "groups")
]


def test_uses_have_their_types(tmp_path):
    """Arguments, results, methods of objects; every ignore in the files is needed."""
    api = pytest.importorskip("mypy.api", reason="checks types with mypy")
    report, errors, status = api.run(
        [
            *("--strict", "--warn-unused-ignores", "--config-file", ""),
            *("--follow-imports", "silent", "--cache-dir", str(tmp_path), *USES),
        ]
    )
    assert status == 0, report + errors
