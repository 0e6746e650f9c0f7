"""Options that several commands share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from legnet_cli.errors import ConfigError

DeviceOpt = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOpt = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
OverwriteOpt = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
VerboseOpt = Annotated[bool, typer.Option("--verbose", "-v", help="Print details of each step.")]


def band_numbers(text: str | None) -> tuple[int, ...] | None:
    """Band numbers written like ``3,2,1``.

    Raises:
        ConfigError: for anything else.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--bands {text!r} is not a list of band numbers: write them like 3,2,1") from None
