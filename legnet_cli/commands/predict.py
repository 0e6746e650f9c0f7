"""``legnet predict``: from scenes to oriented polygons in map coordinates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from legnet_cli.commands.console import list_problems, number_table, print_json, resumable
from legnet_cli.commands.options import Terminal, command
from legnet_cli.commands.progress import DownloadBar, ProgressBar, clock
from legnet_cli.engine.predict import PredictConfig
from legnet_cli.errors import ConfigError, DataError, counted
from legnet_cli.settings import documented, option

if TYPE_CHECKING:
    from rich.console import Console

    from legnet_cli.engine.predict import JobStatus, PredictResult, SearchProgress

WORST = 10  # scenes in a table at the end


@documented
@dataclass(frozen=True)
class _Terminal(Terminal):
    """What ``predict`` shows."""

    status: Path | None = option(  # noqa: RUF009 - a field is made by a call
        None, "Only show the progress of the search of this job folder or output."
    )


def _predict(config: PredictConfig | None, terminal: _Terminal) -> None:
    """Find objects in scenes, in map coordinates.

    Example: legnet predict scene.tif --weights legnet-tiny-dota10 --out boxes.geojson --preview boxes.png
    """
    if config is None:
        return _tell_status(terminal)
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
        again = "fix them or leave them out, and repeat the command: it continues from here"
        raise DataError(f"{counted(len(result.failures), 'scene')} of {_scenes(result)} not searched: {again}")


def _make(given: dict[str, Any], terminal: _Terminal) -> PredictConfig | None:
    """The settings of a search; None where only that of another one is asked for."""
    if terminal.status is None:
        return PredictConfig(**given)
    if given.get("scenes") or given.get("out"):
        raise ConfigError("--status only tells of another search: leave out scenes and --out")
    return None


predict = command("predict", _predict, PredictConfig, _Terminal, make=_make)


def show_search(bar: ProgressBar, state: SearchProgress) -> None:
    """Tiles done, and the other figures of a search."""
    bar.show(state.tiles_done, state.tiles_total, ", ".join(_figures(state)), state.tiles_before)


def _figures(state: SearchProgress | JobStatus) -> list[str]:
    parts = [f"{state.scenes_done:,} of {counted(state.scenes_total, 'scene')}"] if state.scenes_total > 1 else []
    parts += [counted(state.boxes, "box", "boxes")] if state.boxes else []
    parts += [f"{state.km2_per_second:.3g} km²/s"] if state.km2_per_second else []
    parts += [f"{state.failures:,} failed"] if state.failures else []
    return parts + ([f"{state.workers} workers"] if state.workers > 1 else [])


def _tell_status(terminal: _Terminal) -> None:
    from legnet_cli.engine.predict import read_status

    assert terminal.status is not None
    status = read_status(terminal.status)
    if terminal.json:
        known = {name: value for name, value in asdict(status).items() if name != "processes"}
        shares = [{**asdict(one), "progress": asdict(one.progress)} for one in status.processes]
        print_json({**known, "folder": str(status.folder), "processes": shares})
        return
    left = [] if status.seconds_left is None else [f"{clock(status.seconds_left)} left"]
    tiles = f"{status.tiles_done:,} of {counted(status.tiles_total, 'tile')}"
    typer.echo(f"{status.folder}: {status.state}: {', '.join([tiles, *_figures(status), *left])}")
    for one in status.processes:
        share = f"share {one.share}, " if one.share else ""
        heard = f"since {one.since}, last seen {one.silent:.0f} s ago"
        typer.echo(f"{share}process {one.pid} on {one.host}: {one.state}, {heard}")
    list_problems([*status.reasons.values()], "not searched")


def _scenes(result: PredictResult) -> int:
    return len(result.scenes) + len(result.failures)


def _as_dict(result: PredictResult) -> dict[str, object]:
    scenes = [
        {
            "path": scene.path,
            "name": scene.name,
            "objects": len(scene.detections),
            "tiles": scene.tiles,
            "empty_tiles": scene.empty,
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
        "odd_sizes": result.odd_sizes,
        "objects": result.counts,
        **({"true_objects": {name: asdict(one) for name, one in found.items()}} if (found := result.estimates) else {}),
        "km2": result.km2,
        "seconds": round(result.seconds, 3),
        "scenes": scenes,
        "failures": [{"path": bad.path, "name": bad.name, "reason": bad.reason} for bad in result.failures],
    }


def _show(result: PredictResult) -> None:
    if result.out is None:
        typer.echo(f"this share is done in {result.seconds:.1f} s; others are not yet", err=True)
        return
    from rich.console import Console

    estimates = result.estimates
    table = number_table("class", "objects", *(("true ones", "missed") if estimates else ()))
    for name, count in result.counts.items():
        known = estimates.get(name)
        more = ("–", "–") if known is None else (f"{known.low:,.0f} to {known.high:,.0f}", f"about {known.missed:,.0f}")
        table.add_row(name, f"{count:,}", *(more if estimates else ()))
    if estimates:
        table.caption = "true ones: 90 % interval; both as on the labelled data of the calibration"
    console = Console(stderr=True)
    console.print(f"{result.model}: {sum(result.counts.values()):,} objects", highlight=False, soft_wrap=True)
    console.print(table)
    _show_scenes(result, console)
    area = "" if result.km2 is None else f"{result.km2:,.3g} km², "
    scenes = counted(len(result.scenes), "scene")
    system = "" if result.crs is None else f", in {result.crs}"
    console.print(f"{scenes}, {area}{result.seconds:.1f} s → {result.out}{system}", highlight=False, soft_wrap=True)
    for path in result.previews:
        console.print(f"preview → {path}", highlight=False, soft_wrap=True)


def _show_scenes(result: PredictResult, console: Console) -> None:
    """Those to look at first: failures, then the scenes of which the largest share had no data to be searched."""
    if _scenes(result) == 1:
        return

    poor = sorted(result.scenes, key=lambda scene: (-scene.empty / max(scene.tiles, 1), len(scene.detections)))
    rows = [(failure.name, "not searched", "", "") for failure in result.failures[:WORST]]
    for scene in poor[: WORST - len(rows)]:
        empty = f"{scene.empty / max(scene.tiles, 1):.0%}"
        rows.append((scene.name, f"{len(scene.detections):,}", f"{scene.tiles:,}", empty))
    more = _scenes(result) - len(rows)
    table = number_table(
        "scene", "objects", "tiles", "without data", caption=f"and {more:,} more scenes" if more else None
    )
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)
