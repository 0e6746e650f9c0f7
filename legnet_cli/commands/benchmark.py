"""``legnet benchmark``: how fast a detector is on this machine, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legnet_cli.commands.console import setup_logging
from legnet_cli.commands.options import DeviceOpt, EngineOpt, OverwriteOpt, QuietOpt, VerboseOpt
from legnet_cli.engine.process import keep_freed
from legnet_cli.errors import ConfigError, SlowerError

if TYPE_CHECKING:
    from legnet_cli.engine.benchmark.compare import Comparison


def benchmark(
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", "-w", help="Published name, file or URL; also exported.", show_default="a small demo model"
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Random weights of a recipe, see legnet models.")] = None,
    fps: Annotated[bool, typer.Option("--fps", help="Only tiles a second, as papers report them.")] = False,
    images: Annotated[
        list[str] | None,
        typer.Option("--images", help="Rasters or folders to cut tiles from.", show_default="a drawn tile"),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 1024,
    batch: Annotated[str, typer.Option(help="Numbers of tiles at once: 1,4.")] = "1",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16, or several: fp32,bf16.")] = "auto",
    device: DeviceOpt = "auto",
    engine: EngineOpt = "auto",
    repeat: Annotated[int | None, typer.Option(help="Timed searches of each.", show_default="by --seconds")] = None,
    seconds: Annotated[float, typer.Option(help="Time for each precision and batch.")] = 10.0,
    layers: Annotated[bool, typer.Option("--layers", help="List layers, slowest first, against the roofline.")] = False,
    baseline: Annotated[bool, typer.Option("--baseline", help="Race the weights through mmrotate.")] = False,
    scene: Annotated[
        str | None, typer.Option(help="Raster to search from end to end.", show_default="a small drawn one")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the report to this .json file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the report as this .png file.")] = None,
    compare: Annotated[Path | None, typer.Option(help="JSON of an earlier benchmark.")] = None,
    fail_if_slower: Annotated[
        str | None, typer.Option(help="End with code 5 if a latency grew by more, like 10%.")
    ] = None,
    overwrite: OverwriteOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Measure speed: latency, stages, memory, and how near the network comes to the machine's limits.

    Example: legnet benchmark --weights legnet-tiny-dota10 --precision fp32,bf16 --layers --plot speed.png
    """
    setup_logging(-1 if quiet else int(verbose))
    keep_freed()
    from legnet_cli.commands.benchmark_tables import show, show_comparison, show_fps, show_layers
    from legnet_cli.commands.progress import download_progress
    from legnet_cli.engine.benchmark import BenchmarkConfig
    from legnet_cli.engine.benchmark import benchmark as run

    config = BenchmarkConfig(
        weights=weights,
        recipe=recipe,
        images=tuple(images or ()),
        size=size,
        batches=_numbers(batch),
        precisions=tuple(name.strip() for name in precision.split(",")),
        device=device,
        engine=engine,
        repeat=repeat,
        seconds=seconds,
        only_fps=fps,
        baseline=baseline,
        scene=scene,
        json=json_,
        plot=plot,
        compare=compare,
        fail_if_slower=None if fail_if_slower is None else _share(fail_if_slower),
        overwrite=overwrite,
    )
    if fps and layers:
        raise ConfigError("--fps prints nothing but the speed: leave out --layers")
    with download_progress(quiet=quiet) as arrived:
        result = run(config, _step(quiet), arrived)
    if fps:
        show_fps(result)
    elif not quiet:
        show(result)
    if layers and result.roofline:
        show_layers(result.roofline)
    for path in (json_, plot):
        if path is not None and not quiet:
            typer.echo(f"report → {path}", err=True)
    if result.comparison:
        show_comparison(result.comparison)
        _judge(result.comparison)


def _step(quiet: bool) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if not quiet:
            typer.echo(f"measuring: {text}", err=True)

    return tell


def _judge(comparison: Comparison) -> None:
    if slow := comparison.too_slow:
        worst = max(slow, key=lambda change: change.slower)
        raise SlowerError(
            f"{worst.precision}, batch {worst.batch}: {worst.slower:.1%} slower than {comparison.path} tells, "
            f"allowed are {comparison.limit:.0%}: repeat it on an idle machine, or find the cause with --layers"
        )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(f"--batch {text!r} is no list of numbers: write them like 1,4") from None


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise ConfigError(f"--fail-if-slower {text!r} is no percentage: write it like 10%") from None
