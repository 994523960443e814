"""Credentials that rotate: those of redis-py's CredentialProviders."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

from cachebridge.events import event
from cachebridge.resp import pack

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("cachebridge.l2")


class Logins:
    """A provider in front of the user's, which notices when the credentials change.

    Each new connection asks it, as redis-py does.  ``on_rotation`` is called with the
    AUTH to send on the others.  A provider that streams tells of a change at once;
    another one is found out by the next connection that is opened.  Thread safe.
    """

    def __init__(
        self, provider: Any, label: str, on_rotation: Callable[[bytes], None]
    ) -> None:
        self._provider = provider
        self._label = label
        self._on_rotation = on_rotation
        self._last: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._follow()

    def _follow(self) -> None:
        """Be told of new credentials, if the provider streams them.

        It keeps what it is given for ever, so it is not given this object.
        """
        if not hasattr(self._provider, "on_next"):
            return
        ours = weakref.ref(self)

        def on_next(token: Any) -> None:
            logins = ours()
            if logins is not None:
                logins.take(token)

        def on_error(error: Exception) -> None:
            logins = ours()
            if logins is not None:
                # Without its text, which may hold a token.
                _log.warning(
                    "%s: CREDENTIAL_PROVIDER has no new credentials: %s",
                    logins._label,  # noqa: SLF001 its own
                    type(error).__name__,
                    extra=event("login.not_renewed", error=type(error).__name__),
                )

        self._provider.on_next(on_next)
        self._provider.on_error(on_error)

    def reset(self) -> None:
        """Begin anew in the child of a fork, whose lock another thread may hold."""
        self._lock = threading.Lock()

    def get_credentials(self) -> tuple[str, ...]:
        """Return the current user and password, or the password alone."""
        failure = ""
        try:
            given = tuple(self._provider.get_credentials())
        except Exception as exc:  # noqa: BLE001 without its text, as above
            failure = type(exc).__name__
        if failure:
            raise ConnectionError(f"CREDENTIAL_PROVIDER raised {failure}")
        self._note(given)
        return given

    @property
    def secret(self) -> str:
        """The password that was given last, to be kept out of texts."""
        return str(self._last[-1]) if self._last else ""

    def take(self, token: Any) -> None:
        """Take the next credentials of a provider that streams; redis-py's token."""
        self._note((token.try_get("oid"), token.get_value()))

    def _note(self, credentials: tuple[str, ...]) -> None:
        with self._lock:
            last, self._last = self._last, credentials
        if last and last != credentials:
            self._on_rotation(pack(b"AUTH", *[each.encode() for each in credentials]))
