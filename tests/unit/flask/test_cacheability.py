"""The rules of RFC 9111 about what a shared cache may keep, as one pure function."""

from __future__ import annotations

import pytest

from cachebridge.flask_ext.http.cacheability import (
    Exchange,
    directives_of,
    reason_not_to_store,
)


@pytest.mark.parametrize(
    "exchange",
    [
        Exchange(),
        Exchange(status=404),
        Exchange(status=503),
        Exchange(cache_control="public, max-age=60"),
        Exchange(cache_control="max-age=0, s-maxage=60"),
        Exchange(cache_control="no-store, must-understand"),
        Exchange(has_authorization=True, cache_control="public"),
        Exchange(has_authorization=True, cache_control="s-maxage=10"),
        Exchange(has_authorization=True, cache_control="max-age=5, must-revalidate"),
        Exchange(status=401, cache_control="public"),
        Exchange(request_cache_control="no-cache"),
        Exchange(vary="Accept-Language, Cookie", own_key=True),
        Exchange("POST", own_key=True),
        Exchange(cache_control='x="private, no-store"'),
    ],
    ids=str,
)
def test_what_may_be_kept(exchange):
    """There is no reason not to store it."""
    assert reason_not_to_store(exchange) is None


@pytest.mark.parametrize(
    ("exchange", "said"),
    [
        (Exchange("POST"), "method"),
        (Exchange("HEAD"), "method"),
        (Exchange(request_cache_control="max-age=0, No-Store"), "request says"),
        (Exchange(has_authorization=True), "Authorization"),
        (Exchange(has_authorization=True, cache_control="max-age=5"), "Authorization"),
        (Exchange(status=206), "whole"),
        (Exchange(status=304), "whole"),
        (Exchange(status=101), "whole"),
        (Exchange(status=401), "credentials"),
        (Exchange(status=407), "credentials"),
        (Exchange(cache_control="no-store"), "no-store"),
        (Exchange(cache_control="Private"), "private"),
        (Exchange(cache_control='private="set-cookie", max-age=60'), "private"),
        (Exchange(cache_control="public,no-cache"), "no-cache"),
        (Exchange(cache_control="max-age=0"), "stale"),
        (Exchange(cache_control="max-age=60, s-maxage=0"), "stale"),
        (Exchange(cache_control='max-age="0"'), "stale"),
        (Exchange(sets_cookie=True), "cookie"),
        (Exchange(sets_cookie=True, own_key=True), "cookie"),
        (Exchange(vary="*"), "everything"),
        (Exchange(vary="Accept, *", own_key=True), "everything"),
        (Exchange(vary="Accept-Language"), "Accept-Language"),
    ],
    ids=str,
)
def test_what_must_not_be_kept(exchange, said):
    """Each reason is named."""
    assert said in reason_not_to_store(exchange)


def test_directives():
    """Names in any case, arguments as tokens or quoted, with commas inside."""
    assert directives_of('Max-Age=60,private="a, b" , no-store') == {
        "max-age": "60",
        "private": "a, b",
        "no-store": "",
    }
    assert directives_of("") == {}
