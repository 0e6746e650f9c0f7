"""Readers of labels: those of the registry of formats, so a new one is tried without a word here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reader import CLASSES, IMAGE, SQUARE, Reader, as_bytes, picture

from legnet_cli.data.coco import render
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.sniff import FORMATS, MANY, SUFFIXES

# of formats that are read but not written
TOLD: dict[str, list[Any]] = {
    "cvat": [
        b'<annotations><version>1.1</version><image id="0" name="a.png" width="64" height="48">'
        b'<box label="ship" xtl="4" ytl="5" xbr="20" ybr="15" '
        b'rotation="30.5" occluded="0"><attribute name="difficult">1</attribute></box>'
        b'<polygon label="ship" points="1,2;9,2;9,8"/></image></annotations>'
    ],
    "label-studio": [
        [
            {
                "data": {"image": "/data/upload/a.png"},
                "annotations": [
                    {
                        "result": [
                            {
                                "type": "rectanglelabels",
                                "original_width": 64,
                                "original_height": 48,
                                "value": {
                                    "x": 1,
                                    "y": 2,
                                    "width": 9,
                                    "height": 8,
                                    "rotation": 3,
                                    "rectanglelabels": ["ship"],
                                },
                            }
                        ]
                    }
                ],
            }
        ]
    ],
    "via": [
        {
            "a.png1": {
                "filename": "a.png",
                "size": 1,
                "regions": [
                    {
                        "shape_attributes": {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 8]},
                        "region_attributes": {"class": "ship"},
                    }
                ],
                "file_attributes": {},
            }
        }
    ],
    "xview": [
        {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": {"image_id": "a.png", "type_id": 18, "bounds_imcoords": "1,2,9,8"},
                    "geometry": {"type": "Polygon", "coordinates": SQUARE},
                }
            ],
        }
    ],
}


def label_readers() -> dict[str, Reader]:
    beside = {"a.png": picture(".png"), "b.png": picture(".png"), "data.yaml": b"names: [ship, small-vehicle]\n"}
    found = {}
    for name, fmt in FORMATS.items():
        text = fmt.render(IMAGE, fmt.codes(CLASSES)).encode()

        def read(folder: Path, name: str = name) -> object:
            return load_dataset(folder, format=name, skip_bad=True, sizes=True)

        found[f"labels: {name}"] = Reader(f"a{fmt.suffix}", [text], read, beside)
    coco = render([IMAGE], CLASSES).encode()
    masks = json.loads(coco)
    masks["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": [50, 10, 38, 10]}
    masks["annotations"][1] |= {"segmentation": [], "attributes": {"rotation": 30.5}}
    for name in MANY:
        seeds = {"coco": [coco, as_bytes(masks)]}.get(name) or [*map(as_bytes, TOLD.get(name, [{}, []]))]

        def read_many(folder: Path, name: str = name) -> object:
            return load_dataset(folder, format=name, skip_bad=True, sizes=True)

        found[f"labels: {name}"] = Reader(f"a{SUFFIXES[name][0]}", seeds, read_many, beside)
    found["labels: data.yaml"] = Reader(
        "data.yaml",
        [b"path: .\nnames: [ship, small-vehicle]\n", b"names:\n  0: ship\n  1: &a plane\nb: *a\nnc: 2\n"],
        lambda folder: load_dataset(folder, format="yolo-obb", skip_bad=True),
        {"a.png": picture(".png"), "a.txt": b"0 .1 .1 .9 .1 .9 .9 .1 .9\n"},
    )
    found["labels: classes.txt"] = Reader(
        "classes.txt",
        [b"ship\nsmall-vehicle\n"],
        lambda folder: load_dataset(folder, format="dota", skip_bad=True),
        {"a.png": picture(".png"), "a.txt": b"1 1 9 1 9 9 1 9 ship 0\n"},
    )
    return found
