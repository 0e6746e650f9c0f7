"""``legnet predict``: from scenes to oriented polygons in map coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from legnet_cli.commands.console import list_problems, print_json, resumable
from legnet_cli.commands.options import Terminal, command
from legnet_cli.commands.progress import DownloadBar, ProgressBar
from legnet_cli.engine.predict import PredictConfig
from legnet_cli.errors import DataError, counted

if TYPE_CHECKING:
    from legnet_cli.engine.predict import PredictResult, SearchProgress


def _predict(config: PredictConfig, terminal: Terminal) -> None:
    """Find objects in scenes, in map coordinates.

    Example: legnet predict scene.tif --weights legnet-tiny-dota10 --out boxes.geojson --preview boxes.png
    """
    from legnet_cli.engine.predict import predict as run
    from legnet_cli.engine.process import keep_freed

    keep_freed()
    quiet = terminal.quiet
    with resumable(), ProgressBar("tile", quiet=quiet) as bar, DownloadBar(quiet=quiet) as arrived:
        result = run(config, lambda state: show_search(bar, state), arrived.show)
    if terminal.json:
        print_json(_as_dict(result))
    elif not terminal.quiet:
        _show(result)
    list_problems([failure.reason for failure in result.failures], "not searched")
    if result.failures:
        again = "put them right or leave them out, and repeat the command: it goes on from here"
        raise DataError(f"{counted(len(result.failures), 'scene')} of {_scenes(result)} not searched: {again}")


predict = command("predict", _predict, PredictConfig, Terminal)


def show_search(bar: ProgressBar, state: SearchProgress) -> None:
    """Tiles done, and the ground searched in a second."""
    parts = [f"{state.scenes_done:,} of {counted(state.scenes_total, 'scene')}"] if state.scenes_total > 1 else []
    parts += [counted(state.boxes, "box", "boxes")] if state.boxes else []
    parts += [f"{state.km2_done / bar.seconds:.3g} km²/s"] if state.km2_done else []
    parts += [f"{state.failures} failed"] if state.failures else []
    bar.show(state.tiles_done, state.tiles_total, ", ".join(parts))


def _scenes(result: PredictResult) -> int:
    return len(result.scenes) + len(result.failures)


def _as_dict(result: PredictResult) -> dict[str, object]:
    scenes = [
        {
            "path": scene.path,
            "name": scene.name,
            "objects": len(scene.detections),
            "tiles": scene.tiles,
            "km2": scene.km2,
        }
        for scene in result.scenes
    ]
    return {
        "out": None if result.out is None else str(result.out),
        "outputs": [str(path) for path in result.outputs],
        "crs": result.crs,
        "previews": [str(path) for path in result.previews],
        "model": result.model,
        "objects": result.counts,
        "km2": result.km2,
        "seconds": round(result.seconds, 3),
        "scenes": scenes,
        "failures": [{"path": bad.path, "name": bad.name, "reason": bad.reason} for bad in result.failures],
    }


def _show(result: PredictResult) -> None:
    if result.out is None:
        typer.echo(f"this share is done, {result.seconds:.1f} s: others are not yet", err=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("class", "objects")
    table.columns[1].justify = "right"
    for name, count in result.counts.items():
        table.add_row(name, f"{count:,}")
    console = Console(stderr=True)
    console.print(f"{result.model}: {sum(result.counts.values()):,} objects", highlight=False, soft_wrap=True)
    console.print(table)
    area = "" if result.km2 is None else f"{result.km2:,.3g} km², "
    scenes = counted(len(result.scenes), "scene")
    system = "" if result.crs is None else f", in {result.crs}"
    console.print(f"{scenes}, {area}{result.seconds:.1f} s → {result.out}{system}", highlight=False, soft_wrap=True)
    for path in result.previews:
        console.print(f"preview → {path}", highlight=False, soft_wrap=True)
