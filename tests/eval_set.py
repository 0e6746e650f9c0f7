"""A small dataset in DOTA's layout whose objects the stand-in detector finds, and predictions that fit it."""

import cv2
import numpy as np
from blobs import CLASSES, draw

from legnet_cli.boxes import Detections, boxes_to_polygons
from legnet_cli.data.tables import ImageDetections, write_csv, write_task1
from legnet_cli.engine.eval import EvalConfig
from legnet_cli.tiles import tile_grid

SIZE = (220, 260)
# by image: boxes, and the grey values that the detector tells the classes by
OBJECTS = {
    "P1": ([(60, 60, 40, 20, 0.3), (180, 60, 30, 16, -0.4), (140, 150, 60, 24, 1.0)], (160, 250, 160)),
    "P2": ([(100, 100, 50, 20, 0.0), (200, 180, 24, 14, 0.7)], (250, 160)),
}
NAMES = {160: "dim", 250: "bright"}


def line(quad, name, difficult=0):
    return " ".join([*(f"{value:.3f}" for value in quad.ravel()), name, str(difficult)])


def write_dota(root, objects=OBJECTS, difficult=(), tile=None):
    """A DOTA folder; ``tile`` cuts each image into tiles of that side, named after their places."""
    for folder in ("images", "labelTxt"):
        (root / folder).mkdir(parents=True)
    for image, (boxes, values) in objects.items():
        pixels = draw(SIZE, boxes, values)
        quads = boxes_to_polygons(np.array(boxes, float))
        for place in tile_grid(*SIZE, tile or 1000, 64):
            name = f"{image}__{tile}__{place.col}___{place.row}" if tile else image
            window = pixels[place.row : place.row + place.height, place.col : place.col + place.width]
            assert cv2.imwrite(str(root / "images" / f"{name}.png"), window)
            lines = []
            for number, (quad, value) in enumerate(zip(quads - (place.col, place.row), values, strict=True)):
                seen = ((quad >= 0) & (quad <= (place.width, place.height))).all(1).mean()
                if seen > 0.5:
                    flag = 1 if (image, number) in difficult else 2 * (seen < 1)
                    lines.append(line(quad, NAMES[value], flag))
            (root / "labelTxt" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def perfect(suffix="", objects=OBJECTS):
    rows = []
    for image, (boxes, values) in objects.items():
        labels = np.array([CLASSES.index(NAMES[value]) for value in values])
        scores = np.linspace(0.9, 0.5, len(labels)).astype(np.float32)
        rows.append(ImageDetections(image + suffix, Detections(np.array(boxes, float), scores, labels)))
    return rows


def as_task1(folder):
    write_task1(folder / "task1", perfect(), CLASSES)
    return folder / "task1"


def as_csv(folder):
    write_csv(folder / "found.csv", perfect(".png"), CLASSES)
    return folder / "found.csv"


def config(data, out, **options):
    return EvalConfig(data=data, out=out, **options)
