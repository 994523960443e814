"""No server can make the password come back in an error, a log, or a view."""

from __future__ import annotations

import logging

import pytest

from cachebridge.errors import L2Error
from tests.hostile import scripted
from tests.rig import engine_of, eventually, lone_cache, receiver_of
from tests.unit.l2.conftest import shown

PASSWORD = "Zx9qKm/7+w=="
ANSWERS = [
    b"-ERR unknown command 'AUTH', with args beginning with: 'u' '%b'\r\n",
    b"-ERR AUTH u %b: no such user\r\n",
    b"-WRONGPASS %b\r\n",
    b"%b\r\n",
    b"$%b\r\n",
    b"*1\r\n-ERR %b\r\n",
]


class Provider:
    """Gives the password, or an error that has it."""

    def __init__(self, fails):
        self.fails = fails

    def get_credentials(self):
        if self.fails:
            raise KeyError(PASSWORD)
        return "u", PASSWORD


@pytest.mark.parametrize("fails", [False, True])
def test_a_provider(fails):
    """Its password is kept out of texts as well, and so is what it raises."""
    with scripted(ANSWERS[1] % PASSWORD.encode()) as port:
        cache = lone_cache(
            f"redis://127.0.0.1:{port}/0",
            credential_provider=Provider(fails),
            on_error="raise",
        )
        with pytest.raises(L2Error, match="KeyError" if fails else "no such user") as e:
            cache.get("k")
        assert "Zx9qKm" not in shown(e.value) + repr(cache.health())


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_server_that_repeats_the_password(answer, caplog):
    """Errors, their causes, health and the log show what went wrong without it."""
    with scripted(answer % PASSWORD.encode()) as port, caplog.at_level(logging.DEBUG):
        cache = lone_cache(
            f"redis://127.0.0.1:{port}/0",
            client_kwargs={"username": "u", "password": PASSWORD},
            on_error="raise",
            breaker_failures=1,
        )
        with pytest.raises(L2Error) as raised:
            cache.get("k")
        engine_of(cache).listening.start()
        eventually(lambda: receiver_of(cache).problem)
        seen = shown(raised.value) + repr(cache.health()) + repr(cache.stats())
        seen += receiver_of(cache).problem + repr(engine_of(cache).location)
    seen += "".join(record.getMessage() for record in caplog.records)
    assert "127.0.0.1" in seen
    assert "Zx9qKm" not in seen
