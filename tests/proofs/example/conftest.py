"""What the tests of the example share: a database for the shop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from example_project import stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make a database that the shops of a module use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DATABASE", str(tmp_path_factory.mktemp("shop") / "shop"))
        stack.prepare_database()
        yield
