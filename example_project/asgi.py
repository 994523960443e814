"""The shop's asynchronous service: ``uvicorn example_project.asgi:application``.

It has views of its own (``async_views.py``), and the database and cache of the shop.
"""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application
from django.urls import resolve

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.asgi_settings")

application = get_asgi_application()
resolve("/stats/")  # imports the views now; else the first visitor waits for it
