"""Draw a georeferenced scene of ships, planes, storage tanks and lorries, with its oriented ground truth.

    uv run examples/make_scene.py scene.tif --truth truth.geojson --size 2000 --gsd 0.5 --seed 7
    uv run examples/make_scene.py hazy.tif --sensor multispectral --corruption haze:3

The same seed gives the same scene. ``draw_scene`` gives the arrays without a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from legnet_cli.boxes import Detections, boxes_to_polygons, to_le90
from legnet_cli.engine.eval.corruptions import KINDS, SEVERITIES, Corruption, Place, corrupt

SENSORS = ("rgb", "panchromatic", "multispectral")
CLASSES = ("plane", "ship", "storage-tank", "large-vehicle")
# metres: shortest and longest length, width as a share of the length
SIZES = {
    "plane": (22.0, 60.0, (0.9, 1.05)),
    "ship": (18.0, 90.0, (0.18, 0.3)),
    "storage-tank": (10.0, 36.0, (1.0, 1.0)),
    "large-vehicle": (8.0, 17.0, (0.17, 0.26)),
}
WATER, FIELD, CONCRETE = 0, 1, 2
GROUND = {
    "ship": WATER,
    "plane": CONCRETE,
    "storage-tank": CONCRETE,
    "large-vehicle": CONCRETE,
}
SHARPNESS = 4  # objects are drawn at this many times the scene's resolution


@dataclass
class Canvas:
    """Scene under construction: RGB in 0..255 (h, w, 3), land use (h, w), taken pixels (h, w)."""

    rgb: NDArray[np.float32]
    ground: NDArray[np.uint8]
    taken: NDArray[np.bool_]


def draw_scene(size: int, gsd: float, seed: int, objects: int | None = None) -> tuple[NDArray[np.uint8], Detections]:
    """Draw ``size`` × ``size`` pixels of ``gsd`` metres; returns RGB (h, w, 3) and the objects, scored 1."""
    rng = np.random.default_rng(seed)
    canvas = _ground(size, rng)
    wanted = objects if objects is not None else max(6, round((size * gsd / 28) ** 2))
    boxes, labels = [], []
    for _ in range(wanted):
        label = int(rng.choice(len(CLASSES), p=[0.14, 0.32, 0.22, 0.32]))
        row = int(rng.integers(1, 6 if CLASSES[label] == "large-vehicle" else 4))  # parked side by side
        for box in _placed(canvas, CLASSES[label], gsd, row, rng):
            _draw_object(canvas, CLASSES[label], box, rng)
            boxes.append(box)
            labels.append(label)
    noise = rng.normal(0, rng.uniform(1, 5), canvas.rgb.shape).astype(np.float32)
    image = cv2.GaussianBlur(canvas.rgb, (0, 0), rng.uniform(0.4, 0.9)) * rng.uniform(0.75, 1.15) + noise
    truth = Detections(
        to_le90(np.array(boxes).reshape(-1, 5)), np.ones(len(boxes), np.float32), np.array(labels, np.int64)
    )
    return np.clip(image, 0, 255).astype(np.uint8), truth


def _clouds(size: int, cell: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise (size, size) of mean 0 and deviation 1 with features about ``cell`` pixels wide."""
    grid = rng.normal(size=(int(size / cell) + 3,) * 2).astype(np.float32)
    smooth = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return smooth / max(float(smooth.std()), 1e-6)


def _ground(size: int, rng: np.random.Generator) -> Canvas:
    """Patches of water, fields and concrete, each with a texture of its own."""
    count = max(5, size // 160)
    seeds, kinds = rng.uniform(0, size, (count, 2)), rng.choice(3, count, p=[0.36, 0.2, 0.44])
    kinds[:3] = (WATER, CONCRETE, FIELD)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    warp = _clouds(size, 90, rng) * 12
    nearest, patch = np.full((size, size), np.inf, np.float32), np.zeros((size, size), np.int64)
    for index, (sx, sy) in enumerate(seeds):
        distance = np.hypot(x - sx + warp, y - sy - warp)
        patch[distance < nearest] = index
        nearest = np.minimum(nearest, distance)
    base = {WATER: ((38, 62, 78), 14), FIELD: ((92, 108, 66), 26), CONCRETE: ((128, 126, 122), 22)}
    colours = np.stack([np.array(base[k][0]) + rng.normal(0, base[k][1], 3) * (0.4, 0.4, 0.4) for k in kinds])
    colours += rng.normal(0, 12, (count, 1))
    rgb = colours[patch].astype(np.float32)
    ground = kinds[patch].astype(np.uint8)
    rough = np.array([3, 12, 7], np.float32)[ground]
    texture = 0.6 * _clouds(size, 40, rng) + 0.6 * _clouds(size, 6, rng) + 0.5 * rng.normal(size=(size, size))
    angle = rng.uniform(0, np.pi, count)[patch]
    furrows = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 0.7) * (ground == FIELD) * 5
    return Canvas(rgb + (rough * texture + furrows)[..., None].astype(np.float32), ground, np.zeros((size, size), bool))


def _placed(canvas: Canvas, name: str, gsd: float, row: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Up to ``row`` boxes side by side on free ground of the right kind; none if no place is found."""
    size = len(canvas.ground)
    shortest, longest, ratio = SIZES[name]
    for _ in range(30):
        length = np.exp(rng.uniform(np.log(shortest), np.log(longest))) / gsd
        width = length * rng.uniform(*ratio)
        angle = 0.0 if name == "storage-tank" else rng.uniform(-np.pi / 2, np.pi / 2)
        step = width * rng.uniform(1.25, 1.7)
        start = rng.uniform(0, size, 2)
        across = np.array([-np.sin(angle), np.cos(angle)]) * step
        boxes = [np.array([*(start + i * across), length, width, angle]) for i in range(row)]
        free = [box for box in boxes if _claim(canvas, name, box, gsd)]
        if free:
            return free
    return []


def _claim(canvas: Canvas, name: str, box: NDArray[np.float64], gsd: float) -> bool:
    """Take the pixels of ``box`` with a margin if all of them are inside, free and of the right ground."""
    grown = box + np.array([0, 0, 1 / gsd + 2, 1 / gsd + 2, 0])  # half a metre and a pixel on each side
    corners = boxes_to_polygons(grown[None])[0]
    (x0, y0), (x1, y1) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int) + 1
    if min(x0, y0) < 2 or max(x1, y1) > len(canvas.ground) - 2:
        return False
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners - (x0, y0)).astype(np.int32), 1)
    inside = mask.astype(bool)
    window = np.s_[y0:y1, x0:x1]
    if canvas.taken[window][inside].any() or (canvas.ground[window][inside] != GROUND[name]).any():
        return False
    canvas.taken[window] |= inside
    return True


def _draw_object(canvas: Canvas, name: str, box: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw the shapes of one object, its shadow first."""
    reach = int(np.hypot(box[2], box[3]) / 2) + 6
    x0, y0 = (np.floor(box[:2]) - reach).astype(int)
    x1, y1 = (np.floor(box[:2]) + reach).astype(int)
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, canvas.rgb.shape[1]), min(y1, canvas.rgb.shape[0])
    window = canvas.rgb[y0:y1, x0:x1]
    shadow = {"ship": 1.0, "plane": 2.0, "storage-tank": 3.0}.get(name, 1.2)
    for number, (shape, colour) in enumerate(_shapes(name, rng)):
        points = _to_scene(shape, box) - (x0, y0)
        if number == 0:
            dark = _coverage(points + shadow, window.shape[:2])
            window *= 1 - 0.45 * dark[..., None]
        cover = _coverage(points, window.shape[:2])[..., None]
        window[...] = window * (1 - cover) + cover * np.asarray(colour, np.float32)


def _to_scene(shape: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (k, 2) in a unit box, [-0.5, 0.5], as pixels of the scene."""
    cx, cy, w, h, angle = box
    along, across = shape[:, 0] * w, shape[:, 1] * h
    x = cx + along * np.cos(angle) - across * np.sin(angle)
    return np.stack([x, cy + along * np.sin(angle) + across * np.cos(angle)], 1)


def _coverage(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each pixel inside a polygon (k, 2)."""
    fine = np.zeros((shape[0] * SHARPNESS, shape[1] * SHARPNESS), np.uint8)
    cv2.fillPoly(fine, [np.round(points * SHARPNESS * 16).astype(np.int32)], 255, shift=4)
    return cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _shapes(name: str, rng: np.random.Generator) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Polygons in a unit box with their colours, drawn in order."""

    def rectangle(x0: float, x1: float, y0: float, y1: float) -> NDArray[np.float64]:
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    paint = rng.choice([[225, 225, 222], [190, 60, 52], [60, 84, 140], [205, 190, 150], [44, 46, 50], [150, 152, 155]])
    paint = paint + rng.normal(0, 10, 3)
    if name == "ship":
        hull = np.array([(-0.5, -0.36), (-0.42, -0.5), (0.24, -0.5), (0.5, 0), (0.24, 0.5), (-0.42, 0.5), (-0.5, 0.36)])
        deck = hull * (0.9, 0.66)
        cabin = rectangle(-0.4, rng.uniform(-0.28, -0.12), -0.32, 0.32)
        return [(hull, paint * 0.8), (deck, paint * 0.5 + 75), (cabin, np.full(3, 228.0))]
    if name == "plane":
        white = np.full(3, rng.uniform(195, 245))
        body = np.array(
            [
                (-0.5, 0),
                (-0.4, -0.045),
                (0.36, -0.055),
                (0.46, -0.035),
                (0.5, 0),
                (0.46, 0.035),
                (0.36, 0.055),
                (-0.4, 0.045),
            ]
        )
        wing = np.array(
            [
                (0.16, -0.03),
                (-0.14, -0.5),
                (-0.22, -0.5),
                (-0.06, -0.03),
                (-0.06, 0.03),
                (-0.22, 0.5),
                (-0.14, 0.5),
                (0.16, 0.03),
            ]
        )
        tail = np.array([(-0.34, 0), (-0.44, -0.18), (-0.5, -0.18), (-0.46, 0), (-0.5, 0.18), (-0.44, 0.18)])
        return [(wing, white * 0.93), (tail, white * 0.9), (body, white)]
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1) / 2
    if name == "storage-tank":
        roof = np.full(3, rng.uniform(150, 240))
        return [(circle, roof * 0.82), (circle * 0.9, roof), (circle * 0.12 + 0.2, roof * 0.7)]
    return [(rectangle(-0.5, 0.3, -0.5, 0.5), paint * 0.6 + 80), (rectangle(0.33, 0.5, -0.46, 0.46), paint)]


def record(image: NDArray[np.uint8], sensor: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Bands (n, h, w) as ``sensor`` would store the RGB ``image`` (h, w, 3)."""
    bands = image.transpose(2, 0, 1)
    grey = np.tensordot([0.299, 0.587, 0.114], bands, 1)
    if sensor == "panchromatic":
        return grey.round().astype(np.uint8)[None]
    if sensor == "multispectral":  # blue, green, red and a made-up near infrared, in 12 bits
        near = 255 - bands[0].astype(float) / 2
        return (np.stack([*bands[::-1], near]) * 8 + 150).astype(np.uint16)
    return bands


def main(
    out: Annotated[Path, typer.Argument(help="GeoTIFF to write.")],
    truth: Annotated[Path | None, typer.Option(help="GeoJSON of the objects.")] = None,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 2000,
    gsd: Annotated[float, typer.Option(help="Metres a pixel.")] = 0.5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same scene.")] = 0,
    epsg: Annotated[int, typer.Option(help="Projected reference system.")] = 32631,
    sensor: Annotated[
        str, typer.Option(help="rgb, panchromatic (8 bits) or multispectral (four bands, 12 bits).")
    ] = "rgb",
    corruption: Annotated[str | None, typer.Option(help="Kind and severity (1 to 5), such as haze:3.")] = None,
) -> None:
    """Draw a scene."""
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.transform import Affine

    from legnet_cli.geo.crs import WGS84
    from legnet_cli.geo.raster import Scene
    from legnet_cli.geo.vector import Layer, write_layer

    if sensor not in SENSORS:
        raise typer.BadParameter(f"choose {', '.join(SENSORS)}", param_hint="--sensor")
    image, objects = draw_scene(size, gsd, seed)
    if corruption:
        kind, _, severity = corruption.partition(":")
        if kind not in KINDS or severity not in map(str, SEVERITIES):
            raise typer.BadParameter(f"write KIND:1 to KIND:5, with {', '.join(KINDS)}", param_hint="--corruption")
        image = corrupt(image, Corruption(kind, int(severity)), Place(seed, "scene"))
    bands = record(image, sensor)
    transform = Affine(gsd, 0, 590_000, 0, -gsd, 5_790_000)
    profile = {"driver": "COG", "dtype": bands.dtype, "count": len(bands), "height": size, "width": size}
    profile |= {"compress": "JPEG", "quality": 80} if sensor == "rgb" else {"compress": "DEFLATE"}
    with rasterio.open(out, "w", crs=f"EPSG:{epsg}", transform=transform, **profile) as file:
        file.write(bands)
        if sensor == "multispectral":
            file.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.nir]
    if truth:
        with Scene.open(str(out)) as scene:
            corners = scene.georef.to_lonlat(boxes_to_polygons(objects.boxes).reshape(-1, 2))
        write_layer(truth, Layer(corners.reshape(-1, 4, 2), WGS84, {"class": np.array(CLASSES)[objects.labels]}))
    typer.echo(f"{out}: {len(objects)} objects")


if __name__ == "__main__":
    typer.run(main)
