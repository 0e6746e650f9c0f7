"""``legnet doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

from dataclasses import asdict

import typer

from legnet_cli.commands.console import print_json
from legnet_cli.commands.options import Output, command
from legnet_cli.errors import DependencyError
from legnet_cli.settings import Settings


def _doctor(_: Settings, output: Output) -> None:
    """Check this machine and say what is missing."""
    from legnet_cli.engine.doctor import doctor as run

    findings = run()
    if output.json:
        print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        topic = ""
        for finding in findings:
            if finding.topic != topic:
                topic = finding.topic
                typer.secho(topic, bold=True)
            mark = typer.style("→ " + finding.fix, fg=typer.colors.YELLOW) if finding.fix else ""
            typer.echo(f"  {finding.name:{width}}  {finding.value}  {mark}".rstrip())
    if fatal := next((finding for finding in findings if finding.fatal), None):
        raise DependencyError(f"{fatal.name} {fatal.value}: run `{fatal.fix}`")


doctor = command("doctor", _doctor, Settings, Output)
