"""Carries requests out to Redis, also to one that refuses scripts.

Synchronous; its twin is ``aclient.py``.  What a request says stands in ``commands`` and
``load_scripts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from cachebridge.l2 import commands
from cachebridge.l2.carrier import Carrier
from cachebridge.l2.server import (
    after_watch,
    answer_in,
    first_error,
    is_as_expected,
    plain_answer,
    plain_of,
    refuses_scripts,
    watch,
)

if TYPE_CHECKING:
    from cachebridge.l2.commands import Request


class Client(Carrier):
    """One server.  Thread safe; a call holds one connection while it runs.

    Also raises ScriptsRefusedError, where no plain commands do the same.
    """

    @property
    def has_scripts(self) -> bool:
        """Whether the server has not refused a script yet."""
        return not self.server.scripts_refused

    def _answer_to(self, request: Request) -> Any:
        if request.script is not None and self.server.scripts_refused:
            return self._run_plain(request)
        replies = self._exchange(request)
        failure = first_error(replies)
        if failure is None:
            return answer_in(request, replies)
        if isinstance(failure, NoScriptError):
            return self._answer_to(commands.load_script(request))
        if request.script is not None and refuses_scripts(failure):
            self.server.note_refusal(failure)
            return self._run_plain(request)
        raise failure

    # -- without scripts -------------------------------------------------------------

    def _run_plain(self, request: Request) -> Any:
        """Do with plain commands what the script would have done."""
        if request.script is commands.REPLACE:
            return self._replace_watching(request)
        return plain_answer(request, self._exchange(plain_of(request)))

    def _replace_watching(self, request: Request) -> bool:
        """Compare and set by optimistic locking on one connection."""
        link = self._pool.take()
        first = watch(request)
        try:
            watched = link.exchange(first.packed, first.replies)
            same = is_as_expected(request, watched)
            second = after_watch(request, same=same)
            replies = link.exchange(second.packed, second.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        if (failure := first_error([*watched, *replies])) is not None:
            raise failure
        return same and replies[-1] is not None
