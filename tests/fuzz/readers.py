"""Every reader of what others made, with small sound files that mutations start from.

Label formats come from the registry of their readers, so a new one is tried without a word here.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import cv2
import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
import torch
from safetensors.torch import save

from legnet_cli.data.coco import render
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.images import image_size
from legnet_cli.data.labels import ImageLabels
from legnet_cli.data.sniff import FORMATS, MANY, SUFFIXES, VECTOR_SUFFIXES
from legnet_cli.data.tables import read_csv, read_task1
from legnet_cli.detectors.metadata import from_metadata
from legnet_cli.detectors.weights import fetch
from legnet_cli.detectors.weights.checkpoint import read_checkpoint
from legnet_cli.engine.benchmark.compare import read_report
from legnet_cli.engine.eval.compare import _read as read_metrics
from legnet_cli.engine.eval.predictions import read_predictions
from legnet_cli.engine.eval.truth import Source, load_truth
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Job
from legnet_cli.engine.predict.plan import ScenePlan
from legnet_cli.engine.predict.provenance import read_replay
from legnet_cli.engine.split.draft import Draft, draft_place
from legnet_cli.engine.train.config import TrainConfig
from legnet_cli.engine.train.folder import read_settings
from legnet_cli.engine.train.plan import override, recipe_plan
from legnet_cli.engine.train.state import load_run
from legnet_cli.errors import LegnetError
from legnet_cli.geo.aoi import read_aoi
from legnet_cli.geo.georef import read_georef
from legnet_cli.geo.inputs.lists import read_list
from legnet_cli.geo.polygons import read_polygons
from legnet_cli.geo.raster import Scene

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
QUADS = np.array([[[4, 5], [20, 5], [20, 15], [4, 15]], [[30, 30], [40, 32], [39, 37], [29, 35]]], np.float64)
IMAGE = ImageLabels(
    "a.png",
    QUADS,
    ("ship", "small-vehicle"),
    np.array([0, 1]),
    ({}, {}),
    size=(64, 48),
    places=("", ""),
    meta={"gsd": 0.5},
)
CLASSES = ("ship", "small-vehicle")
SQUARE = [[[500001.0, 4999990.0], [500010.0, 4999990.0], [500010.0, 4999980.0], [500001.0, 4999990.0]]]


@dataclass(frozen=True)
class Reader:
    """A reader of one file.

    Attributes:
        file: path of the file below a folder.
        seeds: sound contents.
        read: reads it, given the folder.
        beside: other files of the folder.
        sound: whether the seeds can be read.
    """

    file: str
    seeds: list[bytes]
    read: Callable[[Path], object]
    beside: dict[str, bytes] = field(default_factory=dict)
    sound: bool = True

    def prepare(self, folder: Path) -> None:
        """Write what lies beside the file."""
        for name, content in self.beside.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def attempt(self, folder: Path, data: bytes) -> None:
        """Read ``data`` as the file."""
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.read(folder)


def picture(suffix: str) -> bytes:
    return cv2.imencode(suffix, PIXELS)[1].tobytes()


def geotiff() -> bytes:
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 3, "dtype": "uint8", "crs": "EPSG:32631"}
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile, transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6), compress="deflate") as ds:
            ds.write(np.moveaxis(PIXELS, 2, 0))
            ds.update_tags(note="a")
        return bytes(memory.read())


VRT = (
    b'<VRTDataset rasterXSize="64" rasterYSize="48"><SRS>EPSG:32631</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>'
    b'<Metadata><MDI key="a">b</MDI></Metadata><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    b'<SourceFilename relativeToVRT="1">in.tif</SourceFilename><SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" '
    b'xSize="64" ySize="48"/><DstRect xOff="0" yOff="0" xSize="64" ySize="48"/></SimpleSource></VRTRasterBand>'
    b"</VRTDataset>"
)


def feature_collection(**more: Any) -> bytes:
    geometry = {"type": "Polygon", "coordinates": SQUARE}
    properties = {"class": "ship", "score": 0.5, "image": "a.png", "difficult": 0, **more}
    features = [{"type": "Feature", "properties": properties, "geometry": geometry}] * 2
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    return json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}).encode()


def layer(folder: Path, suffix: str) -> bytes:
    path = folder / f"seed{suffix}"
    driver = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile", ".kml": "KML"}[suffix]
    values = [np.array(["ship", "ship"], object), np.array([0.5, 0.25]), np.array(["a.png", "a.png"], object)]
    shapes = shapely.to_wkb(shapely.box([1, 2], [1, 2], [5, 6], [5, 6]))
    crs = None if suffix == ".kml" else "EPSG:32631"
    names = ["class", "score", "image"]
    pyogrio.raw.write(path, shapes, values, names, driver=driver, geometry_type="Polygon", crs=crs or "EPSG:4326")
    return path.read_bytes()


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
STAC = {
    "type": "Feature",
    "id": "a",
    "assets": {"data": {"href": "a.tif", "type": "image/tiff", "roles": ["data"]}},
    "links": [{"rel": "next", "href": "b.json"}],
}


def as_bytes(seed: Any) -> bytes:
    return seed if isinstance(seed, bytes) else json.dumps(seed).encode()


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


def read_raster(folder: Path, name: str) -> None:
    if not name.endswith(".vrt"):
        image_size(folder / name)
    read_georef(folder / name)
    with Scene.open(str(folder / name)) as scene:
        if scene.width * scene.height < 1 << 22:
            scene.preview(64)


def raster_readers() -> dict[str, Reader]:
    found = {}
    for suffix in (".tif", ".png", ".jpg", ".bmp", ".webp", ".jp2", ".vrt"):
        seed = VRT if suffix == ".vrt" else geotiff() if suffix == ".tif" else picture(suffix)
        beside = {"in.tif": geotiff()} if suffix == ".vrt" else {}
        name = f"a{suffix}"
        found[f"raster: {suffix}"] = Reader(name, [seed], lambda folder, name=name: read_raster(folder, name), beside)
    notes = (
        b"<PAMDataset><SRS>EPSG:32631</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>"
        b'<Metadata domain="OVERVIEWS"/></PAMDataset>'
    )
    beside = {"a.png": picture(".png")}
    found["raster: .aux.xml"] = Reader("a.png.aux.xml", [notes], lambda folder: read_raster(folder, "a.png"), beside)
    found["raster: world file"] = Reader(
        "a.pgw", [b"1\n0\n0\n-1\n5\n6\n"], lambda folder: read_raster(folder, "a.png"), beside
    )
    return found


def all_of(path: Path, reads: list[Callable[[Path], object]]) -> None:
    """Call each, and let the last fault out."""
    for read in reads:
        with suppress(LegnetError):
            read(path)


def vector_readers(folder: Path, truth: Any) -> dict[str, Reader]:
    found = {}
    for suffix in (*VECTOR_SUFFIXES, ".kml"):
        seeds = [feature_collection()] if suffix == ".geojson" else [layer(folder, suffix)]
        beside = {}
        if suffix == ".shp":
            beside = {f"a{s}": (folder / f"seed{s}").read_bytes() for s in (".shx", ".dbf", ".prj")}

        def read(place: Path, name: str = f"a{suffix}") -> None:
            reads = [
                read_aoi,
                read_polygons,
                lambda path: read_predictions(path, truth),
                lambda path: read_list(str(path), ""),
            ]
            all_of(place / name, reads)

        found[f"vector: {suffix}"] = Reader(f"a{suffix}", seeds, read, beside)
    dbf = (folder / "seed.dbf").read_bytes()
    beside = {f"a{s}": (folder / f"seed{s}").read_bytes() for s in (".shp", ".shx", ".prj")}
    found["vector: .dbf"] = Reader("a.dbf", [dbf], lambda place: read_polygons(place / "a.shp"), beside)
    found["labels: vector"] = Reader(
        "a.geojson",
        [feature_collection()],
        lambda place: load_dataset(place, skip_bad=True),
        {"a.tif": geotiff()},
    )
    found["list: STAC"] = Reader("a.json", [as_bytes(STAC)], lambda place: read_list(str(place / "a.json"), ""))
    index = feature_collection(location="a.tif")
    found["list: index"] = Reader("a.geojson", [index], lambda place: read_list(str(place / "a.geojson"), ""))
    found["list: text"] = Reader(
        "a.txt", [b"# scenes\na.tif\nb/c.tif\n"], lambda place: read_list(str(place / "a.txt"), "")
    )
    return found


TASK1 = b"a 0.9 4 5 20 5 20 15 4 15\na 0.5 30 30 40 32 39 37 29 35\n"
CSV = b"image,class,score,cx,cy,w,h,angle,x1,y1,x2,y2,x3,y3,x4,y4\na,ship,0.9,12,10,16,10,0,4,5,20,5,20,15,4,15\n"


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Task1_ship.txt", TASK1)
        archive.writestr("Task1_plane.txt", b"")
    return content.getvalue()


def table_readers(truth: Any) -> dict[str, Reader]:
    return {
        "table: Task1": Reader("Task1_ship.txt", [TASK1], read_task1),
        "table: csv": Reader("a.csv", [CSV], lambda folder: read_csv(folder / "a.csv")),
        "table: zip": Reader("a.zip", [zipped()], lambda folder: read_predictions(folder / "a.zip", truth)),
    }


CARD = {
    "version": 1,
    "name": "m",
    "recipe": "oriented-rcnn/legnet-tiny",
    "classes": ["a", "b", "c"],
    "tile": 1024,
    "overlap": 200,
    "gsd": 0.5,
    "stretch": "auto",
    "licence": None,
    "trained_on": "x",
    "data_sha256": None,
    "model": None,
}
FACTS = {
    "legnet": 1,
    "precision": "fp32",
    "score_threshold": 0.05,
    "nms_threshold": 0.1,
    "max_detections": 9,
    "size": [64, 64],
}


def tensors() -> dict[str, torch.Tensor]:
    shapes = {
        "backbone.Stem.LoG.conv_init.weight": (8, 3, 7, 7),
        "rpn_head.rpn_cls.weight": (3, 2, 1, 1),
        "rpn_head.rpn_reg.weight": (18, 2, 1, 1),
        "roi_head.bbox_head.fc_cls.weight": (4, 2),
    }
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def saved(content: Any, **options: Any) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory, **options)
    return memory.getvalue()


def read_card(folder: Path) -> None:
    text = (folder / "card.json").read_text("utf-8", "replace")
    (folder / "w.safetensors").write_bytes(save(tensors(), {"legnet": text}))
    read_checkpoint(folder / "w.safetensors")


def read_exported(folder: Path) -> None:
    try:
        values = json.loads((folder / "card.json").read_bytes())
        metadata = {str(key): json.dumps(value) for key, value in values.items()}
    except (ValueError, AttributeError, RecursionError):
        metadata = {key: (folder / "card.json").read_text("utf-8", "replace") for key in (*CARD, *FACTS)}
    from_metadata(metadata, folder / "a.onnx")


def weight_readers() -> dict[str, Reader]:
    meta = {"CLASSES": ("a", "b", "c"), "epoch": 12}
    pth = [saved({"meta": meta, "state_dict": tensors()}), saved(tensors())]
    legacy = [saved({"state_dict": tensors(), "meta": meta}, _use_new_zipfile_serialization=False)]
    sound = [save(tensors(), {"legnet": json.dumps(CARD)})]
    return {
        "weights: .pth": Reader("w.pth", pth, lambda folder: read_checkpoint(folder / "w.pth")),
        "weights: legacy .pth": Reader("w.pth", legacy, lambda folder: read_checkpoint(folder / "w.pth")),
        "weights: .safetensors": Reader(
            "w.safetensors", sound, lambda folder: read_checkpoint(folder / "w.safetensors")
        ),
        "weights: card": Reader("card.json", [as_bytes(CARD)], read_card),
        "weights: exported": Reader("card.json", [as_bytes(CARD | FACTS | {"source_sha256": "0"})], read_exported),
        "weights: URL": Reader(
            "url", [b"https://example.org/a/w.pth?x=1", b"legnet-tiny-dota10", b"w.pth"], read_url, sound=False
        ),
        "weights: .sha256": Reader(
            "w.pth.sha256",
            [hashlib.sha256(b"a").hexdigest().encode() + b"  w.pth\n"],
            lambda folder: fetch._check_hash(folder / "w.pth"),
            {"w.pth": b"a"},
        ),
    }


def read_url(folder: Path) -> None:
    class Offline:
        def open(self, request: Request, **_: object) -> None:
            request.full_url.encode("ascii")
            raise URLError("offline")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "_opener", Offline)
        patch.setenv("LEGNET_CACHE", str(folder / "cache"))
        fetch.fetch((folder / "url").read_bytes().decode("utf-8", "surrogateescape"))


def read_job(folder: Path) -> None:
    plan = ScenePlan("a", "k", "1 2", None, [0] * 32, None, None)  # type: ignore[arg-type]
    job = Job(folder / "job", {"weights": "w"})
    with job.open([plan], fresh=False):
        job.may_replace(folder / "out.gpkg")
        job.load(plan, 0)


def read_draft(folder: Path) -> None:
    draft = Draft(folder / "out", "f", overwrite=False)
    draft.close()


def parts() -> bytes:
    memory = io.BytesIO()
    arrays = {"boxes": np.zeros((1, 5)), "scores": np.zeros(1, np.float32), "labels": np.zeros(1, np.int64)}
    np.savez(memory, **arrays, tiles=np.zeros(1, np.int64), seen=np.zeros(1, np.int64))
    return memory.getvalue()


def read_set(folder: Path) -> None:
    text = (folder / "set").read_text("utf-8", "replace")
    override(recipe_plan("oriented-rcnn/legnet-tiny", ("a",), 1), [text])


def record_readers(folder: Path) -> dict[str, Reader]:
    provenance = {
        "run": "a",
        "legnet": "0.1.0",
        "weights": {"name": "m", "sha256": "0" * 64},
        "settings": {
            **dict.fromkeys(("tile", "overlap", "gsd", "bands", "classes", "aoi", "crs")),
            **{"weights": "legnet-nano", "stretch": "auto", "score": 0.25, "max_detections": None},
            **{"engine": "auto", "precision": "fp32", "compile": False},
        },
        "computed": {"device": "cpu", "engine": "torch", "precision": "fp32"},
        "aoi": "none",
        "scenes": [{"name": "a.tif", "path": "/a.tif", "size": 1, "mtime_ns": "2"}],
    }
    metrics = {
        "data": "d",
        "summary": {"voc07": {"mAP50": 0.5}},
        "ap": {"voc07": {"0.50": {"ship": 0.5}}},
        "robustness": {"kinds": {"noise": {"relative_drop": 0.1}}, "mean_drop": 0.1},
    }
    settings = {"device": "cpu", "engine": "torch", "size": 64, "tiles": 1, "model": "m", "recipe": "r"}
    run = {"latency_ms": {"p50": 1.0}, "precision": "fp32", "batch": 1}
    report = {"machine": {"cpu": "a", "gpu": None, "threads": 1}, "settings": settings, "runs": [run]}
    plan = recipe_plan("oriented-rcnn/legnet-tiny", ("a",), 1)
    run_yaml = {
        "settings": {"data": "d", "config": None, "recipe": "oriented-rcnn/legnet-tiny"},
        "plan": plan.to_dict(),
    }
    journal = Reader(
        f"{draft_place(Path('out'))}/journal.jsonl", [b'"f"\n["a/0", null]\n["b/0", "x: damaged"]\n'], read_draft
    )
    job = {"format": 2, "settings": {"weights": "w"}, "scenes": {"k": "1 2"}}
    replay = PredictConfig(scenes=(), replay=Path("a.csv.json"))
    return {
        "record: provenance": Reader(
            "a.csv.json", [as_bytes(provenance)], lambda place: read_replay(_at(replay, place / "a.csv.json"))
        ),
        "record: metrics": Reader("metrics.json", [as_bytes(metrics)], read_metrics),
        "record: benchmark": Reader("a.json", [as_bytes(report)], lambda place: read_report(place / "a.json")),
        "record: split journal": journal,
        "record: job": Reader("job/job.json", [as_bytes(job)], read_job),
        "record: written": Reader("job/written.jsonl", [b'["out.gpkg", "1 2"]\n["b", "absent"]\n'], read_job),
        "record: part": Reader("job/parts/k/0.npz", [parts()], read_job),
        "record: config.yaml": Reader(
            "config.yaml", [as_bytes(run_yaml)], lambda place: read_settings(TrainConfig(out=place, resume=True))
        ),
        "record: last.ckpt": Reader(
            "last.ckpt", [saved({"step": 1, "model": tensors()})], lambda place: load_run(place / "last.ckpt")
        ),
        "record: --set": Reader(
            "set",
            [
                *(
                    b"optimizer.lr=1e-4",
                    b"steps=[8, 11]",
                    b"model.backbone.stem_dim=32",
                    b"batch=2",
                    b"transforms.0.type=RFlip",
                ),
                *(b"classes=[a]", b"schedule=step", b"warmup_ratio=0.1", b"optimizer.betas=[0.9, 0.999]"),
            ],
            read_set,
        ),
    }


def _at(config: PredictConfig, path: Path) -> PredictConfig:
    return replace(config, replay=path)


def make_readers(folder: Path) -> dict[str, Reader]:
    """All readers by name; ``folder`` is for files that are made once."""
    data = folder / "truth"
    data.mkdir()
    (data / "a.png").write_bytes(picture(".png"))
    (data / "a.txt").write_text("1 1 9 1 9 9 1 9 ship 0\n")
    truth = load_truth(Source(data))
    return {
        **label_readers(),
        **raster_readers(),
        **vector_readers(folder, truth),
        **table_readers(truth),
        **weight_readers(),
        **record_readers(folder),
    }
