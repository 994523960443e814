"""``flask cachebridge VERB``: what an operator asks of the app's caches."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from cachebridge.commands import DONE, NOT_DONE, add_verbs, carry_out
from cachebridge.errors import CacheBridgeError
from cachebridge.flask_ext import Cache


@click.command(
    "cachebridge",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    help="Asks something of the app's caches: flask cachebridge --help.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def command(arguments: tuple[str, ...]) -> None:
    """Carry out the verb; exit status 0 all is well, 1 a finding, 2 not done."""
    parser = argparse.ArgumentParser(prog="flask cachebridge")
    add_verbs(parser.add_subparsers(dest="verb", required=True), _add_number)
    given = parser.parse_args(arguments)
    try:
        report = carry_out(_cache(given.cache), given, sys.stdout)
    except CacheBridgeError as exc:
        click.echo(str(exc), err=True)
        sys.exit(NOT_DONE)
    if report.status != DONE and report.text:
        click.echo(report.text, err=True)
    sys.exit(report.status)


def _add_number(parser: Any) -> None:
    parser.add_argument(
        "--cache",
        type=int,
        default=1,
        metavar="N",
        help="which of the app's caches, in the order of init_app; the first is 1",
    )


def _cache(number: int) -> Cache:
    """Return one of the app's caches, and raise CacheBridgeError if there is none."""
    caches = [
        each for each in current_app.extensions.get("cache", ()) if type(each) is Cache
    ]
    if not 1 <= number <= len(caches):
        raise CacheBridgeError(f"the app has {len(caches)} caches of cachebridge.")
    return caches[number - 1]
