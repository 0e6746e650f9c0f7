"""Options that several commands share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from legnet_cli.errors import ConfigError

BandsOpt = Annotated[
    str | None, typer.Option("--bands", help="One or three band numbers from 1: 3,2,1.", show_default="by colour")
]
StretchOpt = Annotated[
    str, typer.Option("--stretch", help="To 8 bits: auto, none, percentiles 2,98 or values MIN,MAX.")
]
BatchOpt = Annotated[int | None, typer.Option("--batch", help="Tiles at once.", show_default="by device")]
LabelsOpt = Annotated[
    str | None, typer.Option("--labels", help="Labels to take where there are several: a file, or part of a path.")
]
ClassFieldOpt = Annotated[
    str | None, typer.Option("--class-field", help="Column of the classes in a vector file.", show_default="class")
]
DeviceOpt = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOpt = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
EngineOpt = Annotated[
    str, typer.Option("--engine", help="auto, torch, or with the export extra onnxruntime or openvino.")
]
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
