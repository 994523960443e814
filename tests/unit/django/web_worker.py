"""A worker process of a small Django site, told over pipes what to serve.

Run as ``python -m tests.unit.django.web_worker '<json>'``; it answers every line of
JSON on its standard input with one on its standard output.  Requests pass through
Django's whole handler by its test client; cookies belong to the caller, as a browser's
do.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def configure(given: dict[str, Any]) -> None:
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.unit.django.web_urls",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        MIGRATION_MODULES=dict.fromkeys(("contenttypes", "auth", "sessions")),
        REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
        **given,
    )
    django.setup()


def migrate() -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    get_user_model().objects.create_user("alice")


def serve(order: dict[str, Any]) -> dict[str, Any]:
    from django.conf import settings
    from django.test import Client

    settings.SESSION_ENGINE = order["session_engine"]
    client = Client()  # it reads the setting anew
    client.cookies.load(order.get("cookies", {}))
    response = client.get(order["path"], REMOTE_ADDR="192.0.2.1")
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    return {
        "status": response.status_code,
        "body": response.content.decode(),
        "cookies": cookies,
    }


def call(order: dict[str, Any]) -> Any:
    from django.core.cache import caches

    result = getattr(caches["default"], order["call"])(*order.get("args", ()))
    return result if order["call"] != "stats" else {"trusted": result.trusted}


def main() -> None:
    configure(json.loads(sys.argv[1]))
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("migrate"):
            answer: Any = migrate()
        else:
            answer = serve(order) if "path" in order else call(order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
