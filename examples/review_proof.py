"""Does `legnet review` choose well? Test AP against the number of corrected objects, and against other choices.

    uv run examples/review_proof.py HIT-UAV work --start start.safetensors

A detector learns all it can from a few of HIT-UAV's frames (Suo et al., Scientific Data 10:227, 2023; CC BY 4.0), from
weights that know none of them, is calibrated on others, and searches more. Of these boxes some are chosen, corrected as
the labels of the frames say, by script but through the same GeoPackage, and learned from. What is chosen differs: by
`legnet review`, at random among the reported boxes, or by the score alone, the nearest to the threshold first. Either
way what the model shows in the square around a chosen box is corrected along with it, and counts. All learn for 300
steps at the rate that `train` takes by itself, half of each batch from the old frames; ``old`` sees nothing else, for
330. Each result is a line of results.jsonl; what stands there is not done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyogrio.raw
import shapely
import typer
from numpy.typing import NDArray

from legnet_cli.data.labels import IGNORED
from legnet_cli.engine.eval import EvalConfig, evaluate
from legnet_cli.engine.predict import PredictConfig, predict
from legnet_cli.engine.review import ReviewConfig, review
from legnet_cli.engine.review.selection import Choice, choose
from legnet_cli.engine.split import SplitConfig, split
from legnet_cli.engine.train import TrainConfig, train

CLASSES = ("Person", "Car", "Bicycle")
MOST = (400, 200, 100, 50)  # corrected objects
BASE, POOL, TEST, VAL = 50, 300, 60, 40  # frames
STEPS, ROUNDS = 300, (5, 5, 10)  # of each way to choose; epochs of the detector, the rate falling to 0 in each
SHARE = 2 / 3  # of the pool that a seed chooses from
RECIPE = "oriented-rcnn/legnet-nano"
TILE, OVERLAP, BATCH = 160, 32, 8
FEW = tuple(
    f"model.train_cfg.{name}"
    for name in ("rcnn.sampler.num=64", "rpn_proposal.nms_pre=300", "rpn_proposal.max_per_img=300")
)
HIT, EXACT = 0.3, 0.8  # IoU from which a box is one of an object, and from which it needs no correction

Truth = dict[str, list[tuple[shapely.Polygon, str]]]


def copy_frames(hit_uav: Path, work: Path) -> None:
    """Folders ``base``, ``pool``, ``test`` and ``val`` of frames with their labels."""
    lists = [(hit_uav / "splits" / f"{part}.txt").read_text().split() for part in ("train", "test", "val")]
    order, test, val = (np.random.default_rng(seed).permutation(names) for seed, names in enumerate(lists))
    parts = {"base": order[:BASE], "pool": order[BASE : BASE + POOL], "test": test[:TEST], "val": val[:VAL]}
    for part, names in parts.items():
        for folder, suffix in (("images", "jpg"), ("labelTxt", "txt")):
            (work / part / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.copy(hit_uav / folder / f"{name}.{suffix}", work / part / folder)


def read_truth(folder: Path) -> Truth:
    """Outlines, y up, and classes of the objects by file name of the frame."""
    found: Truth = {}
    for path in folder.glob("*.txt"):
        rows = [line.split() for line in path.read_text().splitlines() if len(line.split()) > 8]
        quads = [np.array(row[:8], float).reshape(4, 2) * (1, -1) for row in rows]
        names = [row[8] if row[8] in CLASSES else IGNORED for row in rows]
        found[f"{path.stem}.jpg"] = [(shapely.Polygon(q), name) for q, name in zip(quads, names, strict=True)]
    return found


def correct(path: Path, truth: Truth) -> dict[str, int]:
    """Correct a review as its user would who knows the truth; the number of rows of each status."""
    meta, _, wkb, columns = pyogrio.raw.read(path, layer="review")
    _, _, areas, about = pyogrio.raw.read(path, layer="places", columns=["scene"])
    table: dict[str, Any] = dict(zip(meta["fields"], (column.astype(object) for column in columns), strict=True))
    shapes = list(shapely.from_wkb(wkb))
    taken: set[tuple[str, int]] = set()
    for row, shape in enumerate(shapes):
        scene = table["scene"][row]
        iou = [shape.intersection(one).area / shape.union(one).area for one, _ in truth[scene]]
        best = int(np.argmax(iou)) if iou else 0
        if not iou or iou[best] < HIT or (scene, best) in taken:
            table["status"][row] = "wrong"
            continue
        taken.add((scene, best))
        outline, name = truth[scene][best]
        exact = iou[best] >= EXACT and name == table["class"][row]
        table["status"][row], table["class"][row] = "ok" if exact else "edited", name
        shapes[row] = shape if exact else outline
    for square, scene in zip(shapely.from_wkb(areas), about[0], strict=True):
        for number, (outline, name) in enumerate(truth[scene]):
            if (scene, number) not in taken and square.contains(outline.centroid):
                taken.add((scene, number))
                shapes.append(outline)
                new = {"status": "added", "class": name, "scene": scene}
                table = {key: np.append(column, new.get(key)) for key, column in table.items()}
    for key in ("score", "probability", "priority"):
        table[key] = np.array([np.nan if value is None else value for value in table[key]], np.float64)
    pyogrio.raw.write(
        path, shapely.to_wkb(shapes), list(table.values()), list(table), layer="review", crs=meta["crs"],
        geometry_type="Polygon", driver="GPKG",
    )  # fmt: skip
    words, counts = np.unique(table["status"].astype(str), return_counts=True)
    return dict(zip(words.tolist(), counts.tolist(), strict=True))


def in_order(
    rank: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    boxes: NDArray[np.float64], labels: NDArray[np.int64], scores: NDArray[np.float64], scenes: NDArray[np.int64],
    *, most: int, thresholds: NDArray[np.float64], sizes: NDArray[np.float64], **_: object,
) -> Choice:  # fmt: skip
    """Choose the objects of least ``rank`` of scores and thresholds (NaN: none), with what is in their squares."""
    value = rank(scores, thresholds)
    half = np.maximum(3 * boxes[:, 2], 32)[:, None] / 2
    squares = np.hstack([np.floor(boxes[:, :2] - half), np.ceil(boxes[:, :2] + half)])
    squares = squares.clip(0, np.tile(sizes[scenes], 2))
    left = np.isfinite(value)
    rows: list[int] = []
    leads: list[bool] = []
    for lead in np.argsort(value, kind="stable").tolist():
        if left[lead] and len(rows) < most:
            low, high = squares[lead, :2], squares[lead, 2:]
            near = (scenes == scenes[lead]) & (scores >= thresholds / 2)
            near &= ((boxes[:, :2] >= low) & (boxes[:, :2] <= high)).all(1)
            near[lead] = False
            group = [lead, *(row for row in np.flatnonzero(near).tolist() if row not in rows)][: most - len(rows)]
            rows += group
            leads += [row == lead for row in group]
            left[group] = False
    chosen = np.array(rows, np.int64)
    shown = np.where(np.array(leads)[:, None], squares[chosen], np.nan)
    return Choice(chosen, np.zeros(len(chosen), np.int64), ("",) * len(chosen), shown)


def within(
    seed: int, whole: Callable[..., Choice], boxes: Any, labels: Any, scores: Any, scenes: Any, **more: Any
) -> Choice:
    """What ``whole`` chooses of the scenes that a seed picks."""
    number = int(scenes.max()) + 1
    picked = np.random.default_rng([seed, 1]).permutation(number)[: round(SHARE * number)]
    keep = np.flatnonzero(np.isin(scenes, picked))
    per_object = ("thresholds", "probabilities", "views", "gsd")
    more = {key: value[keep] if key in per_object and value is not None else value for key, value in more.items()}
    found = whole(boxes[keep], labels[keep], scores[keep], scenes[keep], **more)
    return Choice(keep[found.rows], found.kinds, found.reasons, found.squares)


def methods(seed: int) -> dict[str, Callable[..., Choice]]:
    """Ways to choose."""

    def at_random(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(scores >= thresholds, np.random.default_rng(seed).random(len(scores)), np.nan)

    def by_score(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(scores - thresholds)

    ways = {"review": choose, "random": partial(in_order, at_random), "score": partial(in_order, by_score)}
    return {name: partial(within, seed, way) for name, way in ways.items()}


def measure(work: Path, weights: Path, part: str = "test") -> dict[str, float]:
    """AP at IoU 0.5 of each class, and their mean; calibrates the weights with what is not ``test``."""
    config = EvalConfig(
        data=work / part, weights=(str(weights),), out=work / "eval", tile=640, overlap=64, classes=CLASSES,
        ignore_others=True, calibrate=part != "test", write_back=part != "test", overwrite=True,
    )  # fmt: skip
    found = evaluate(config).metrics
    return {"map50": found["summary"]["area"]["mAP50"], **found["ap"]["area"]["0.50"]}


def repeat(data: Path, number: int) -> int:
    """Copy tiles, each as often as the others or once more, until there are ``number``; how many there were."""
    tiles = sorted((data / "images").iterdir())
    if not 0 < len(tiles) <= number:
        raise ValueError(f"{len(tiles)} tiles cannot be shown in {number} places")
    for place in range(len(tiles), number):
        tile = tiles[place % len(tiles)]
        shutil.copy(tile, tile.with_stem(f"{tile.stem}_{place}"))
        labels = data / "annfiles" / f"{tile.stem}.txt"
        shutil.copy(labels, labels.with_stem(f"{tile.stem}_{place}"))
    return len(tiles)


def make_base(work: Path, start: str) -> None:
    """A detector that knows the few frames well, from weights ``start``."""
    for tile, out in ((320, work / "base-large"), (TILE, work / "base-tiles")):
        config = SplitConfig(work / "base", out, tile=tile, overlap=tile // 3, background=0.1, overwrite=True)
        split(replace(config, classes=CLASSES, ignore_others=True))
    first = TrainConfig(
        data=work / "base-large", out=work / "run-0", recipe=RECIPE, weights=start, hold_out=0.0, epochs=4, batch=4,
        lr=1e-3, classes=CLASSES, overrides=(*FEW, "warmup=30"), workers=0, precision="bf16", overwrite=True,
    )  # fmt: skip
    train(first)
    more = replace(first, data=work / "base-tiles", batch=BATCH, lr=None, classes=(), overrides=FEW)
    for number, epochs in enumerate(ROUNDS):
        weights, out = work / f"run-{number}/last.safetensors", work / f"run-{number + 1}"
        train(replace(more, out=out, weights=str(weights), epochs=epochs))
    shutil.copy(work / f"run-{len(ROUNDS)}/last.safetensors", work / "base.safetensors")


def learn(work: Path, name: str, way: Callable[..., Choice] | None, most: int, seed: int) -> dict[str, Any]:
    """Choose, correct, learn and measure; what became of the rows, and the test AP."""
    folder, old = work / f"{name}-{most}-{seed}", work / "base-tiles"
    path, tiles = folder / "review.gpkg", folder / "tiles"
    folder.mkdir(exist_ok=True)
    status: dict[str, int] = {}
    if way:
        images = work / "pool/images"
        review(ReviewConfig((str(work / "boxes.gpkg"),), path, (str(images),), most, overwrite=True), way)
        status = correct(path, read_truth(work / "pool/labelTxt"))
        split(SplitConfig(images, tiles, labels=str(path), tile=TILE, overlap=OVERLAP, overwrite=True))
    number = repeat(tiles, STEPS * BATCH // 2) if way else 0
    config = TrainConfig(
        data=tiles if way else old, also=old if way else None, out=folder / "run", recipe=RECIPE, hold_out=0.0,
        weights=str(work / "base.safetensors"), batch=BATCH, epochs=1 if way else ROUNDS[0], overrides=FEW, workers=0,
        precision="bf16", seed=seed, overwrite=True,
    )  # fmt: skip
    steps = train(config).step
    result = {"status": status, "tiles": number, "steps": steps, **measure(work, folder / "run/last.safetensors")}
    shutil.rmtree(folder)
    return result


def main(
    hit_uav: Annotated[Path, typer.Argument(help="Folder of HIT-UAV.")],
    work: Annotated[Path, typer.Argument(help="Folder to work in.")],
    start: Annotated[str, typer.Option(help="Weights that have not seen HIT-UAV: file or none.")] = "none",
    seeds: Annotated[int, typer.Option(help="Number of repetitions.")] = 3,
    runs: Annotated[int, typer.Option(help="Stop after N results of this call; 0 never.")] = 0,
) -> None:
    """Write results.jsonl and print the table."""
    base, boxes, results = work / "base.safetensors", work / "boxes.gpkg", work / "results.jsonl"
    if not (work / "test").exists():
        copy_frames(hit_uav, work)
    if not base.exists():
        make_base(work, start)
    if not boxes.exists():
        measure(work, base, "val")
        predict(PredictConfig((str(work / "pool/images"),), boxes, (str(base),), tile=640, overlap=64, score=0.05))
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    made = {(one["method"], one["most"], one["seed"]) for one in done}
    jobs = [("base", 0, 0), *(("old", 0, seed) for seed in range(seeds))]
    jobs += [(name, most, seed) for most in MOST for seed in range(seeds) for name in methods(seed)]
    for name, most, seed in [job for job in jobs if job not in made][: runs or None]:
        found = measure(work, base) if name == "base" else learn(work, name, methods(seed).get(name), most, seed)
        done.append({"method": name, "most": most, "seed": seed, **found})
        with results.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    for most in (0, *sorted(MOST)):
        for name in ("base", "old", "review", "random", "score"):
            values = [one["map50"] for one in done if (one["method"], one["most"]) == (name, most)]
            if values:
                typer.echo(f"{most:4} {name:7} {np.mean(values):.4f} ± {np.std(values):.4f} of {len(values)}")


if __name__ == "__main__":
    typer.run(main)
