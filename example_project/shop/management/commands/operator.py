"""``operator``: let the staff see the admin, and its page of the caches."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

NAME: Final = "operator"


class Command(BaseCommand):
    help = "Make the user 'operator', whose password is the staff's token."

    def handle(self, **_options: Any) -> None:
        if not settings.SHOP_STAFF_TOKEN:
            raise CommandError(
                "SHOP_STAFF_TOKEN is empty, so any visitor could log in: set it"
            )
        user, _ = User.objects.get_or_create(username=NAME)
        user.is_staff = user.is_superuser = True
        user.set_password(settings.SHOP_STAFF_TOKEN)
        user.save()
        self.stdout.write(NAME)
