"""Carries requests out to Redis, also to one that refuses scripts.

Asynchronous: the twin of ``client.py``, line for line; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from cachebridge.l2 import commands
from cachebridge.l2.acarrier import AsyncCarrier
from cachebridge.l2.exchange import exchange
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


class AsyncClient(AsyncCarrier):
    """See ``Client``.  For tasks of any event loop, and of several at once."""

    @property
    def has_scripts(self) -> bool:
        """Whether the server has not refused a script yet."""
        return not self.server.scripts_refused

    async def _answer_to(self, request: Request) -> Any:
        if request.script is not None and self.server.scripts_refused:
            return await self._run_plain(request)
        replies = await self._exchange(request)
        failure = first_error(replies)
        if failure is None:
            return answer_in(request, replies)
        if isinstance(failure, NoScriptError):
            return await self._answer_to(commands.load_script(request))
        if request.script is not None and refuses_scripts(failure):
            self.server.note_refusal(failure)
            return await self._run_plain(request)
        raise failure

    # -- without scripts -------------------------------------------------------------

    async def _run_plain(self, request: Request) -> Any:
        """Do with plain commands what the script would have done."""
        if request.script is commands.REPLACE:
            return await self._replace_watching(request)
        return plain_answer(request, await self._exchange(plain_of(request)))

    async def _replace_watching(self, request: Request) -> bool:
        """Compare and set by optimistic locking on one connection."""
        link = await self._pool.take()
        first = watch(request)
        try:
            watched = await exchange(link, first.packed, first.replies)
            same = is_as_expected(request, watched)
            second = after_watch(request, same=same)
            replies = await exchange(link, second.packed, second.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        if (failure := first_error([*watched, *replies])) is not None:
            raise failure
        return same and replies[-1] is not None
