"""``manage.py cachebridge VERB``: what an operator asks of the caches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from cachebridge.commands import DONE, NOT_DONE, WARM_HELP, add_keys, warm
from cachebridge.contrib.django.aliases import UnusableAliasError, bridge, conceal
from cachebridge.errors import CacheBridgeError

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Exit status: 0 done, 1 done in part, 2 not done."""

    help = "Asks something of the caches whose backend is CacheBridge."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        warming: Any = verbs.add_parser("warm", help=WARM_HELP, description=WARM_HELP)
        warming.add_argument("--alias", default="default", help="its name in CACHES")
        add_keys(warming)

    def handle(self, *_args: Any, **given: Any) -> None:
        """Carry out the verb."""
        alias = given["alias"]
        try:
            status, told = warm(bridge(alias), given["keys"], given["pattern"])
        except (UnusableAliasError, CacheBridgeError) as exc:
            raise CommandError(conceal(str(exc), alias), returncode=NOT_DONE) from exc
        if status != DONE:
            raise CommandError(told, returncode=status)
        self.stdout.write(told)
