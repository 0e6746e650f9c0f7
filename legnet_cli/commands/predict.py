"""``legnet predict``: from scenes to oriented polygons in map coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legnet_cli.commands.console import print_json, setup_logging
from legnet_cli.commands.options import (
    BandsOpt,
    BatchOpt,
    DeviceOpt,
    EngineOpt,
    JsonOpt,
    OverwriteOpt,
    PrecisionOpt,
    QuietOpt,
    StretchOpt,
    VerboseOpt,
    band_numbers,
)
from legnet_cli.engine.process import keep_freed

if TYPE_CHECKING:
    from legnet_cli.engine.predict import PredictResult


def predict(
    scenes: Annotated[list[str], typer.Argument(help="Rasters GDAL reads, folders, glob patterns or URLs.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help=".geojson .gpkg .fgb .shp .parquet .csv, or a folder (no suffix) of DOTA text."
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help="Published name, file or URL.", show_default="a small demo model"),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(help="Side of a tile in pixels.", show_default="the model's, 1024"),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Pixels neighbouring tiles share; objects up to this long are whole in one of them.",
            show_default="the model's, 200",
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(help="Search at this many metres per pixel.", show_default="the scene's"),
    ] = None,
    bands: BandsOpt = None,
    stretch: StretchOpt = "auto",
    score: Annotated[float, typer.Option(help="Lowest score, 0 to 1.")] = 0.25,
    classes: Annotated[str | None, typer.Option(help="Class names: ship,plane.", show_default="all")] = None,
    aoi: Annotated[Path | None, typer.Option(help="Vector file; search only inside its polygons.")] = None,
    max_detections: Annotated[int | None, typer.Option(help="Best objects of each scene.", show_default="all")] = None,
    crs: Annotated[str, typer.Option(help="Of the output: source or EPSG:n. GeoJSON is always WGS 84.")] = "source",
    preview: Annotated[Path | None, typer.Option(help="PNG of the boxes drawn over the scene.")] = None,
    batch: BatchOpt = None,
    device: DeviceOpt = "auto",
    engine: EngineOpt = "auto",
    precision: PrecisionOpt = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: minutes, for GPUs and many tiles.")
    ] = False,
    overwrite: OverwriteOpt = False,
    json_: JsonOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Find objects in scenes, in map coordinates.

    Example: legnet predict scene.tif --weights legnet-tiny-dota10 --out boxes.geojson --preview boxes.png
    """
    setup_logging(-1 if quiet else int(verbose))
    keep_freed()
    from legnet_cli.commands.progress import download_progress, tile_progress
    from legnet_cli.detectors.weights.fetch import EMBEDDED
    from legnet_cli.engine.predict import PredictConfig
    from legnet_cli.engine.predict import predict as run

    config = PredictConfig(
        scenes=tuple(scenes),
        out=out,
        weights=weights or EMBEDDED,
        tile=tile,
        overlap=overlap,
        gsd=gsd,
        score=score,
        classes=tuple(name.strip() for name in classes.split(",")) if classes else (),
        aoi=aoi,
        bands=band_numbers(bands),
        stretch=stretch,
        batch=batch,
        device=device,
        engine=engine,
        precision=precision,
        compile=compile_,
        crs=crs,
        max_detections=max_detections,
        preview=preview,
        overwrite=overwrite,
    )
    with tile_progress(quiet=quiet) as advance, download_progress(quiet=quiet) as arrived:
        result = run(config, advance, arrived)
    if json_:
        print_json(_as_dict(result))
    elif not quiet:
        _show(result)


def _as_dict(result: PredictResult) -> dict[str, object]:
    scenes = [
        {"path": scene.path, "objects": len(scene.detections), "tiles": scene.tiles, "km2": scene.km2}
        for scene in result.scenes
    ]
    return {
        "out": str(result.out),
        "previews": [str(path) for path in result.previews],
        "model": result.model,
        "objects": result.counts,
        "km2": result.km2,
        "seconds": round(result.seconds, 3),
        "scenes": scenes,
    }


def _show(result: PredictResult) -> None:
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
    scenes = f"{len(result.scenes)} scene{'s' if len(result.scenes) > 1 else ''}"
    console.print(f"{scenes}, {area}{result.seconds:.1f} s → {result.out}", highlight=False, soft_wrap=True)
    for path in result.previews:
        console.print(f"preview → {path}", highlight=False, soft_wrap=True)
