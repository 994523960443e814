"""What the tests of the Django app share: settings, and the running of its checks."""

from __future__ import annotations

import pytest
from django.core import checks

from tests.unit.django.conftest import set_caches

__all__ = ["set_caches"]


@pytest.fixture
def run_checks():
    """Return a function that runs our checks as ``manage.py check`` does, by id."""

    def run(*, deploy: bool = True) -> dict[str, checks.CheckMessage]:
        found = checks.run_checks(
            tags=["cachebridge"], include_deployment_checks=deploy
        )
        by_id = {message.id: message for message in found}
        assert len(by_id) == len(found), found
        assert all(message.hint for message in found)
        return by_id

    return run
