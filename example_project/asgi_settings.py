"""The shop's settings with asynchronous views; CACHES and all else are the same."""

from __future__ import annotations

from example_project.settings import *  # noqa: F403 that is what it is for

ROOT_URLCONF = "example_project.async_views"
MIDDLEWARE = ["example_project.async_views.say_who"]
