"""What can be trained and loaded: detectors × backbones × datasets, and the published recipes among them.

Sources: LEGNet (ICCV Workshops 2025, arXiv 2503.14012), UnravelNet (ISPRS Journal 231, 2026,
doi 10.1016/j.isprsjprs.2025.11.002) and their configs. This module is plain data: it loads neither torch nor mmcv.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from legnet_cli.errors import ConfigError

# what every network here takes
MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB, 0 to 255
STD = (58.395, 57.12, 57.375)
STRIDE = 32  # image sides are padded to a multiple of it

_DOTA10 = (
    "plane baseball-diamond bridge ground-track-field small-vehicle large-vehicle ship tennis-court basketball-court "
    "storage-tank soccer-ball-field roundabout harbor swimming-pool helicopter"
)
_FAIR1M = (
    "Boeing737 Boeing777 Boeing747 Boeing787 A321 A220 A330 A350 C919 ARJ21 other-airplane Passenger_Ship Motorboat "
    "Fishing_Boat Tugboat Engineering_Ship Liquid_Cargo_Ship Dry_Cargo_Ship Warship other-ship Small_Car Bus "
    "Cargo_Truck Dump_Truck Van Trailer Tractor Truck_Tractor Excavator other-vehicle Baseball_Field "
    "Basketball_Court Football_Field Tennis_Court Roundabout Intersection Bridge"
)
_DIOR_R = (
    "airplane airport baseballfield basketballcourt bridge chimney Expressway-Service-area Expressway-toll-station dam "
    "golffield groundtrackfield harbor overpass ship stadium storagetank tenniscourt trainstation vehicle windmill"
)


@dataclass(frozen=True)
class PublishedDataset:
    """A benchmark and how it is cut into training tiles.

    Attributes:
        name: short name, as after ``@`` in a recipe's name.
        title: published name.
        classes: class names, in the order of the labels mmrotate's weights use.
        tile, overlap: pixels.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    tile: int = 1024
    overlap: int = 200


@dataclass(frozen=True)
class Backbone:
    """A backbone size and the widths of neck and head that go with it.

    Attributes:
        name: short name, as in a recipe's name.
        kind: ``LEGNet`` or ``UnravelNet``.
        stem_dim: channels of the first output; the others have 2, 4 and 8 times as many.
        neck: channels of every pyramid level and of the heads' convolutions.
        fc: width of the box head's two fully connected layers.
        anchor: side of the region proposal network's square anchor, in strides of its level.
        weights: name of its ImageNet weights, if the authors published them.
    """

    name: str
    kind: str
    stem_dim: int
    neck: int = 256
    fc: int = 1024
    anchor: int = 8
    weights: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A detector on a backbone for a dataset, with its training schedule and published result.

    Attributes:
        epochs, steps: length of training, and the epochs after which the rate falls tenfold.
        lr: peak rate of AdamW for ``batch`` images a step, counted over all GPUs.
        schedule: ``step``, or ``cosine`` down to nothing at the last step.
        ema: decay of the running average of the weights that is kept as the model; 0 for none.
        parameters: number of weights for the dataset's classes, where counted.
        mean_ap: published mAP on the dataset's test set, percent.
        weights: name of the authors' weight file, if they published one.
    """

    detector: str
    backbone: Backbone
    dataset: PublishedDataset
    epochs: int = 36
    steps: tuple[int, ...] = (13, 24, 33)
    lr: float = 2e-4
    batch: int = 8
    schedule: str = "step"
    ema: float = 0.0
    parameters: int | None = None
    mean_ap: float | None = None
    weights: str | None = None

    @property
    def name(self) -> str:
        """``detector/backbone``, and ``@dataset`` unless that is DOTA-v1.0."""
        suffix = "" if self.dataset is DATASETS["dota10"] else f"@{self.dataset.name}"
        return f"{self.detector}/{self.backbone.name}{suffix}"

    @property
    def stock(self) -> str:
        """The mmrotate config whose values its model has, by file name without suffix."""
        return DETECTORS[self.detector]

    @property
    def angle(self) -> str:
        """Angle convention inside the detector (see ``legnet_cli.boxes``): mmrotate's names end with it."""
        return self.stock.rsplit("_", 1)[-1]


DATASETS = {
    d.name: d
    for d in (
        PublishedDataset("dota10", "DOTA-v1.0", tuple(_DOTA10.split())),
        PublishedDataset("dota15", "DOTA-v1.5", (*_DOTA10.split(), "container-crane")),
        PublishedDataset("dota20", "DOTA-v2.0", (*_DOTA10.split(), "container-crane", "airport", "helipad")),
        PublishedDataset("fair1m", "FAIR1M-v1.0", tuple(_FAIR1M.split()), overlap=500),  # cut at scales 0.5, 1, 1.5
        PublishedDataset("dior-r", "DIOR-R", tuple(_DIOR_R.split()), tile=800),
        PublishedDataset("hrsc", "HRSC2016", ("ship",), tile=800),
    )
}

BACKBONES = {
    b.name: b
    for b in (
        Backbone("legnet-nano", "LEGNet", 16, neck=64, fc=256, anchor=4),  # for objects down to 8 pixels
        Backbone("legnet-tiny", "LEGNet", 32, weights="legnet-tiny-imagenet"),
        Backbone("legnet-small", "LEGNet", 64, weights="legnet-small-imagenet"),
        Backbone("unravelnet-tiny", "UnravelNet", 32, weights="unravelnet-tiny-imagenet"),
        Backbone("unravelnet-small", "UnravelNet", 64, weights="unravelnet-small-imagenet"),
    )
}

DETECTORS = {
    "oriented-rcnn": "oriented_rcnn_r50_fpn_1x_dota_le90",
    "roi-transformer": "roi_trans_r50_fpn_1x_dota_le90",
    "rotated-faster-rcnn": "rotated_faster_rcnn_r50_fpn_1x_dota_le90",
    "rotated-fcos": "rotated_fcos_r50_fpn_1x_dota_le90",
    "s2anet": "s2anet_r50_fpn_1x_dota_le135",
    "r3det": "r3det_r50_fpn_1x_dota_oc",
}

TITLES = {
    "oriented-rcnn": "Oriented R-CNN",
    "roi-transformer": "RoI Transformer",
    "rotated-faster-rcnn": "Rotated Faster R-CNN",
    "rotated-fcos": "Rotated FCOS",
    "s2anet": "S2ANet",
    "r3det": "R3Det",
}


def _row(detector: str, backbone: str, dataset: str = "dota10", **values: Any) -> Recipe:  # noqa: ANN401
    return Recipe(detector, BACKBONES[backbone], DATASETS[dataset], **values)


_UNRAVEL: dict[str, Any] = {"steps": (24, 33), "lr": 1.5e-4}
_DOTA15: dict[str, Any] = {"lr": 1.5e-4, "batch": 4, "weights": "legnet-small-dota15"}
_SHORT: dict[str, Any] = {"epochs": 12, "steps": (8, 11), "lr": 1e-4}

_NANO: dict[str, Any] = {"epochs": 12, "lr": 1e-3, "schedule": "cosine", "ema": 0.998}

RECIPES = {
    r.name: r
    for r in (
        _row("oriented-rcnn", "legnet-nano", parameters=2_387_443, **_NANO),
        _row("oriented-rcnn", "legnet-tiny", parameters=20_651_935, mean_ap=79.37, weights="legnet-tiny-dota10"),
        _row("oriented-rcnn", "legnet-small", parameters=29_896_175, mean_ap=80.03, weights="legnet-small-dota10"),
        _row("oriented-rcnn", "legnet-small", "dota15", parameters=29_897_200, mean_ap=72.89, **_DOTA15),
        _row("oriented-rcnn", "legnet-small", "fair1m", parameters=29_918_725, mean_ap=48.35, **_SHORT),
        # for DIOR-R only the batch is published
        _row("oriented-rcnn", "legnet-small", "dior-r", parameters=29_901_300, mean_ap=68.40, **_SHORT),
        _row("oriented-rcnn", "unravelnet-tiny", parameters=26_676_067, **_UNRAVEL),
        _row("oriented-rcnn", "unravelnet-small", parameters=31_106_367, **_UNRAVEL),
        _row("roi-transformer", "legnet-small", batch=4, parameters=43_883_588),
        _row("rotated-faster-rcnn", "legnet-small", lr=1.5e-4, batch=4, parameters=29_894_633),
        _row("rotated-fcos", "legnet-small", batch=4, parameters=20_728_032),
        _row("s2anet", "legnet-small", batch=2, parameters=23_866_605),
        _row("r3det", "legnet-small", batch=4, parameters=27_170_701),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe called ``detector/backbone`` or ``detector/backbone@dataset``.

    Combinations that nobody published take the schedule of the same detector on DOTA-v1.0.

    Raises:
        ConfigError: if a part of the name is unknown.
    """
    name = name.removesuffix("@dota10")
    if name in RECIPES:
        return RECIPES[name]
    head, _, dataset = name.partition("@")
    detector, _, backbone = head.partition("/")
    if detector not in DETECTORS or backbone not in BACKBONES or (dataset or "dota10") not in DATASETS:
        close = get_close_matches(name, RECIPES, 1, 0.3) or list(RECIPES)[:1]
        raise ConfigError(f"no recipe {name!r}: did you mean {close[0]}? `legnet models` lists them")
    base = next(r for r in RECIPES.values() if r.detector == detector and r.backbone.name != "legnet-nano")
    blank = replace(base, parameters=None, mean_ap=None, weights=None)
    return replace(blank, backbone=BACKBONES[backbone], dataset=DATASETS[dataset or "dota10"])
