"""The admin's page "Caches": how every process is, why a key is in L1, switches.

``docs/admin-page.md`` shows it.  It asks no database but for the user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode, urlsplit

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.urls import path, reverse

from cachebridge.contrib.django.aliases import usable_bridges
from cachebridge.contrib.django.models import Cache
from cachebridge.dashboard.markup import Html, tag
from cachebridge.dashboard.page import TITLE, Place
from cachebridge.dashboard.serving import (
    ASSETS,
    CLEAR,
    INSPECT,
    RIGHTS,
    VIEW,
    Serving,
    asset,
    policy,
)

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.urls import URLPattern

    _Admin = admin.ModelAdmin[Cache]
else:
    _Admin = admin.ModelAdmin

NAME = "cachebridge_cache"


@admin.register(Cache)
class CacheAdmin(_Admin):
    """The page, in the place of a list of rows.

    For a site of one's own: ``site.register(Cache, CacheAdmin)``.
    """

    content_security_policy: ClassVar[str | None] = ""
    """The page's policy: "" is a strict one, None leaves it to the project.

    The strict one refuses inline scripts, which some themes of the admin have.
    """

    _serving = Serving()

    def get_urls(self) -> list[URLPattern]:
        """Return the page and what belongs to it, and none of a row."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name=f"{NAME}_changelist"),
            path("state/", view(self.state_view), name=f"{NAME}_state"),
            path("key/", view(self.key_view), name=f"{NAME}_key"),
            path("act/", view(self.act_view), name=f"{NAME}_act"),
            *[
                path(each, self.asset_view, {"name": each}, name=f"{NAME}_{each}")
                for each in ASSETS
            ],
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the page."""
        place = self._place(request)
        caches, query = usable_bridges(), request.GET.dict()
        content = self._serving.page(place, caches, query)
        return self._framed(request, content, extra=extra_context)

    def state_view(self, request: HttpRequest) -> HttpResponse:
        """Return the same as JSON."""
        state = self._serving.state(self._place(request), usable_bridges())
        return JsonResponse(state)

    def key_view(self, request: HttpRequest) -> HttpResponse:
        """Show the page with what each level has of a key."""
        place = self._place(request, INSPECT)
        if request.method != "POST":
            return HttpResponseRedirect(place.page)
        form = request.POST.dict()
        return self._framed(request, self._serving.key(place, usable_bridges(), form))

    def act_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether to throw a switch, or throw it."""
        place = self._place(request, CLEAR)
        if request.method != "POST":
            return HttpResponseRedirect(place.page)
        form, by = request.POST.dict(), f"user {request.user.pk}"
        outcome = self._serving.act(place, usable_bridges(), form, by)
        if outcome.content is None:
            return HttpResponseRedirect(f"{place.page}?{urlencode(outcome.done or {})}")
        return self._framed(request, outcome.content, status=outcome.status)

    def asset_view(self, _request: HttpRequest, name: str) -> HttpResponse:
        """Return the style or the script, which every visitor may see."""
        content, mark = asset(name)
        headers = {"Cache-Control": "max-age=86400", "ETag": f'"{mark}"'}
        return HttpResponse(content, content_type=ASSETS[name], headers=headers)

    def has_add_permission(self, _request: HttpRequest) -> bool:
        """Return False: there are no rows."""
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        """Return False, as above."""
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        """Return False, as above."""
        return False

    def _place(self, request: HttpRequest, *needed: str) -> Place:
        """Return what the viewer may; raises PermissionDenied without the needed."""
        has = {
            each: request.user.has_perm(f"{Cache._meta.app_label}.{each}")
            for each in RIGHTS
        }
        if not all(has[each] for each in (VIEW, *needed)):
            raise PermissionDenied
        guard = tag(
            "input", type="hidden", name="csrfmiddlewaretoken", value=get_token(request)
        )
        return Place(
            page=self._url("changelist"),
            state=self._url("state"),
            key=self._url("key"),
            act=self._url("act"),
            may_inspect=has[INSPECT],
            may_clear=has[CLEAR],
            guard=guard,
        )

    def _url(self, name: str) -> str:
        site = self.admin_site.name
        return reverse(f"admin:{NAME}_{name}", current_app=site)

    def _framed(
        self,
        request: HttpRequest,
        content: Html,
        *,
        status: int = 200,
        extra: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Return the content within the admin's frame."""
        request.current_app = self.admin_site.name
        urls = {
            each.rpartition(".")[2]: f"{self._url(each)}?{asset(each)[1]}"
            for each in ASSETS
        }
        context = {
            **self.admin_site.each_context(request),
            "title": TITLE,
            "opts": Cache._meta,
            "content": content,
            "urls": urls,
            **(extra or {}),
        }
        response = TemplateResponse(
            request, "cachebridge/admin_page.html", context, status=status
        )
        if self.content_security_policy is not None:
            told = self.content_security_policy or policy(*_static_origin())
            response.headers.setdefault("Content-Security-Policy", told)
        return response


def _static_origin() -> list[str]:
    """Return where the admin's own styles come from, if it is another host."""
    url = urlsplit(static("admin/css/base.css"))
    return [f"{url.scheme or 'https'}://{url.netloc}"] if url.netloc else []
