"""What detectors find in harbours that they have not seen: AP50, precision and recall, false boxes on land.

    uv run examples/harbours_score.py sen2ships work athens,klang=fold1.safetensors durban,algiers=fold2.safetensors

Each harbour is searched with the weights that train_harbours.py made without it (``--hold``). Measured twice: against
the labels of sen2ships, and with the ships added that are in harbours/, where places that may be ships are ignored.
With ``--write-back`` the threshold and probabilities learned so are stored in the card of other weights, such as those
that have seen all harbours: of these, one harbour less is the honest estimate for a new one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
import typer
from harbours import OPEN, open_harbour, read_labels
from numpy.typing import NDArray

from legnet_cli.detectors.views import Tta, Views
from legnet_cli.detectors.weights.checkpoint import read_checkpoint, rewrite_card
from legnet_cli.engine.eval import EvalConfig, evaluate
from legnet_cli.engine.eval.calibrate import Aim, calibrate
from legnet_cli.engine.eval.measure import EvalMetrics
from legnet_cli.engine.predict import PredictConfig, predict

GSD, SCORE = 5.0, 0.02


def write_labels(scene: Path, folder: Path, *, complete: bool) -> None:
    """Scene and labels as ``folder`` of a data set has them."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / scene.name
    link.unlink(missing_ok=True)
    link.symlink_to(scene.resolve())
    with rasterio.open(scene) as raster:
        transform, crs = raster.transform, f"urn:ogc:def:crs:EPSG::{raster.crs.to_epsg()}"
    known, added, unsure = read_labels(scene, ~transform)
    rows = [(ring, "ship") for ring in (known + added if complete else known)]
    rows += [(ring, "unsure") for ring in unsure if complete]
    features = [
        {
            "type": "Feature",
            "properties": {"class": name},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[transform * tuple(corner) for corner in (*ring, ring[0])]],
            },
        }
        for ring, name in rows
    ]
    layer = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": crs}}, "features": features}
    link.with_suffix(".geojson").write_text(json.dumps(layer))


def false_scores(
    measured: EvalMetrics, water: list[NDArray[np.bool_]]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores of false boxes, and whether their middle is not on open ``water``."""
    ranked, (_, false) = measured.matched.predictions, measured.verdicts()
    land = np.zeros(len(false), np.bool_)
    for row in np.flatnonzero(false):
        open_water, (col, line) = water[ranked.images[row]], ranked.boxes[row, :2].astype(int)
        land[row] = not open_water[min(line, len(open_water) - 1), min(col, open_water.shape[1] - 1)]
    return ranked.scores[false], land[false]


def main(
    sen2ships: Annotated[Path, typer.Argument(help="Folder of harbours: a.tif with a.geojson beside it.")],
    work: Annotated[Path, typer.Argument(help="Folder to work in.")],
    folds: Annotated[list[str], typer.Argument(help="Harbours and weights that have not seen them: a,b=file.")],
    tta: Annotated[Tta, typer.Option(help="Views: none, flips or full.")] = "none",
    min_precision: Annotated[float | None, typer.Option(help="Calibrate for it, not for the best F1.")] = None,
    write_back: Annotated[Path | None, typer.Option(help="Weights whose card gets the calibration.")] = None,
) -> None:
    """Search, measure and print the table."""
    names: list[str] = []
    boxes: list[Any] = []
    for held, weights in (fold.split("=") for fold in folds):
        for name in held.split(","):
            out = work / "boxes" / f"{Path(weights).stem}-{tta}-{name}.geojson"
            if not out.exists():
                out.parent.mkdir(parents=True, exist_ok=True)
                scenes = (str(sen2ships / f"{name}.tif"),)
                predict(PredictConfig(scenes, out, (weights,), gsd=GSD, score=SCORE, classes=("ship",), tta=tta))
            names.append(name)
            boxes += json.loads(out.read_text())["features"]
    harbours = {name: open_harbour(sen2ships / f"{name}.tif") for name in sorted(names)}
    water = [harbour.zones == OPEN for harbour in harbours.values()]
    land = sum(float((harbour.zones != OPEN).sum()) * (harbour.gsd / 1000) ** 2 for harbour in harbours.values())
    found = work / "found.geojson"
    found.write_text(json.dumps({"type": "FeatureCollection", "features": boxes}))
    for complete in (False, True):
        data = work / ("complete" if complete else "labelled")
        shutil.rmtree(data, ignore_errors=True)
        for name in harbours:
            write_labels(sen2ships / f"{name}.tif", data, complete=complete)
        measured = evaluate(EvalConfig(
            data, data.with_name(f"{data.name}-report"), predictions=found, classes=("ship",), ignore_others=True,
            overwrite=True,
        )).measured  # fmt: skip
        voc07 = measured.to_dict()["ap"]["voc07"]["0.50"]["ship"]
        typer.echo(f"{data.name}: {measured.precisions.counts[0]} ships, AP50 (VOC07) {voc07:.3f}")
        scores, on_land = false_scores(measured, water)
        for precision in dict.fromkeys((None, min_precision, 0.8, 0.7, 0.6, 0.5)):  # None: best F1
            learned = calibrate(measured, Aim(precision))["ship"]
            false = scores >= learned.threshold
            typer.echo(
                f"  score {learned.threshold:.3f}: precision {learned.precision:.2f}, recall {learned.recall:.2f}, "
                f"false on 10 km2 of land {(false & on_land).sum() / land * 10:.2f} (of {land:.0f} km2)"
            )
    if write_back is not None:
        card = read_checkpoint(write_back).card
        views = Views(tta)
        before = card.calibration if views.single else (card.view_calibration or {}).get(views.name)
        learned = calibrate(measured, Aim(min_precision))["ship"]
        known = {**(before or {}), "ship": learned.to_dict()}
        rewrite_card(write_back, card.calibrated(views.name, known))


if __name__ == "__main__":
    typer.run(main)
