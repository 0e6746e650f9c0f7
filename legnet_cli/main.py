"""The ``legnet`` command line: one table of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from legnet_cli import __version__
from legnet_cli.commands.benchmark import benchmark
from legnet_cli.commands.console import report_errors
from legnet_cli.commands.convert import convert
from legnet_cli.commands.diff import diff
from legnet_cli.commands.doctor import doctor
from legnet_cli.commands.eval import eval_
from legnet_cli.commands.export import export
from legnet_cli.commands.models import models
from legnet_cli.commands.options import Command
from legnet_cli.commands.predict import predict
from legnet_cli.commands.review import review
from legnet_cli.commands.split import split
from legnet_cli.commands.train import train

COMMANDS = (split, train, predict, diff, review, eval_, export, benchmark, convert, models, doctor)

app = typer.Typer(
    name="legnet",
    help="Find oriented objects in remote-sensing scenes with LEGNet and UnravelNet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: loading rich would double the time to show it
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"legnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for command in COMMANDS:
    # what is left over is told by the command itself, in one line
    app.command(cls=Command, context_settings={"allow_extra_args": True})(report_errors(command))
