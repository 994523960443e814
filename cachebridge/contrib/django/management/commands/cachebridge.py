"""``manage.py cachebridge VERB``: what an operator asks of the caches."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from cachebridge.commands import DONE, NOT_DONE, add_verbs, carry_out
from cachebridge.contrib.django.aliases import UnusableAliasError, bridge, conceal
from cachebridge.errors import CacheBridgeError

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Exit status: 0 all is well, 1 a finding, 2 not done."""

    help = "Asks something of the caches whose backend is CacheBridge."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        add_verbs(verbs, _add_alias)

    def handle(self, *_args: Any, **given: Any) -> None:
        """Carry out the verb."""
        alias = given["alias"]
        try:
            report = carry_out(bridge(alias), Namespace(**given), self.stdout)
        except (UnusableAliasError, CacheBridgeError) as exc:
            raise CommandError(conceal(str(exc), alias), returncode=NOT_DONE) from exc
        if report.status != DONE:
            raise CommandError(conceal(report.text, alias), returncode=report.status)


def _add_alias(parser: Any) -> None:
    parser.add_argument("--alias", default="default", help="its name in CACHES")
