"""Which scenarios ``make test`` explores, and which are for ``make proof``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def cases(names: Iterable[str], quick: Collection[str]) -> list[object]:
    """Return a parameter for each name; those that are not quick are proofs."""
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.proof)
        for name in names
    ]
