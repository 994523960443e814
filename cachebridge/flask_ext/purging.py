"""Purging what ``cached`` keeps of views: by URL and by view, with all variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import current_app, has_app_context

from cachebridge.checking.checks import did_you_mean
from cachebridge.core.keys import names_of
from cachebridge.engine.admin import AdminMethods
from cachebridge.flask_ext.backend.null import NullBackend
from cachebridge.flask_ext.decorators.cached import cached_of
from cachebridge.flask_ext.http import targets
from cachebridge.identity.pages import tag_of_path, tag_of_url, tag_of_view

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask


class PurgeMethods(AdminMethods):
    """Base of the extension: invalidation, also where nothing is kept.

    ``purge`` and ``purge_view`` are for pages that were cached with ``purgeable=True``.
    """

    app: Flask
    cache: Any
    """The backend of the current app."""

    def invalidate_tags(self, *tags: str) -> bool:
        """See ``AdminMethods.invalidate_tags``; True where nothing is kept."""
        if isinstance(self.cache, NullBackend):
            names_of(tags)
            return True
        return super().invalidate_tags(*tags)

    async def ainvalidate_tags(self, *tags: str) -> bool:
        """See ``invalidate_tags``."""
        if isinstance(self.cache, NullBackend):
            return self.invalidate_tags(*tags)
        return await super().ainvalidate_tags(*tags)

    def purge(self, *urls: str) -> bool:
        """Invalidate the pages at these URLs, in every process.

        A URL with a query means that query, in any order of its names; one without
        means every query.  Scheme and host do not count.  A page whose view runs now is
        not kept.  Returns False while the shared store is away: then it is done when it
        is back.  Raises TypeError and ValueError for what is no URL.
        """
        return self.invalidate_tags(*map(tag_of_url, urls))

    async def apurge(self, *urls: str) -> bool:
        """See ``purge``."""
        return await self.ainvalidate_tags(*map(tag_of_url, urls))

    def purge_view(self, view: str | Callable[..., Any], **values: Any) -> bool:
        """Invalidate all pages of a view, or those at its URLs for these arguments.

        ``view`` is an endpoint, or the function that ``cached`` has returned; see
        ``purge``.  Raises TypeError for a function that is not purgeable, ValueError
        for an unknown endpoint, and BuildError if no URL has the arguments.
        """
        return self.invalidate_tags(*self._tags_of(view, values))

    async def apurge_view(self, view: str | Callable[..., Any], **values: Any) -> bool:
        """See ``purge_view``."""
        return await self.ainvalidate_tags(*self._tags_of(view, values))

    def _tags_of(self, view: Any, values: dict[str, Any]) -> list[str]:
        if isinstance(view, str):
            app: Flask = current_app if has_app_context() else self.app
            if view not in app.view_functions:
                hint = did_you_mean(view, app.view_functions)
                raise ValueError(f"purge_view: there is no endpoint {view!r}.{hint}")
            if not values:
                return [tag_of_view(view)]
            found = targets.of_view(app, [view], values, needs_host=False)
        else:
            cached = cached_of(view)
            cached.require_purgeable()
            if not values:
                return [tag_of_view(cached.function)]
            found = cached.targets_of(values)
        return [tag_of_path(target.root + target.path) for target in found]
