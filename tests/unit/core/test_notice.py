"""Log lines: one per change, whatever happens how often."""

from __future__ import annotations

from cachebridge.core.notice import MOST, QUIET_S, Notice


def test_what_goes_on_is_told_once():
    """Until it has not happened for a while."""
    notice = Notice()
    told = [notice.begins(float(second)) for second in range(1000)]
    assert told == [True] + [False] * 999
    assert not notice.begins(1000.0)
    assert notice.begins(1000.0 + QUIET_S)


def test_different_things_are_told_apart():
    """As far as there are few: of texts that others choose there may be any number."""
    notice = Notice()
    assert all(notice.begins(0.0, f"thing {number}") for number in range(MOST))
    assert not any(notice.begins(1.0, f"other {number}") for number in range(1000))
    assert notice.begins(QUIET_S + 1, "later")
