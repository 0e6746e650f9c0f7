"""Last stage of the detector that comes with the package (see nano.py): ships in Sentinel-2 harbours.

    uv run examples/train_harbours.py sen2ships HIT-UAV fold.safetensors --hold athens,casablanca,klang
    uv run legnet predict sen2ships/athens.tif --weights fold.safetensors --gsd 5 --classes ship --out athens.geojson

Each step shows crops of harbours (see harbour_crops.py), a few of HIT-UAV's frames and of synthetic scenes, so that the
objects learned before stay known: what backbone and neck make of these shall stay near what they made of them at the
start (``--keep``). Stem and first stage of the backbone and all statistics stay as they are.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from harbour_crops import crop
from harbours import Harbour, Polygons, open_harbour
from make_scene import CLASSES, draw_scene
from nano import LEFT_OUT, TRAINED_ON
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from train_demo import WARM_UP, follow, halved

from legnet_cli.boxes import boxes_to_polygons, polygons_to_boxes
from legnet_cli.detectors.mmrotate.build import build_mmrotate
from legnet_cli.detectors.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from legnet_cli.detectors.weights.fetch import fetch
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import MEAN, STD, get_recipe

SIZE, GSD = 320, 5.0
FROZEN = ("Stem.", "stages.0.")
HARBOURS = (
    "Sentinel-2 harbours, which contain modified Copernicus Sentinel data, with the labels of sen2ships "
    "(ShipDetectionExperts, MIT) and of this project"
)
NOTHING: Polygons = np.zeros((0, 4, 2))

Picture = NDArray[np.uint8]
Labelled = tuple[Picture, Polygons, list[str]]  # an image, outlines of its objects and their classes
Sample = tuple[Picture, Polygons, list[str], Polygons]  # and outlines of what is neither object nor background


def frame(hit_uav: Path, name: str) -> Labelled:
    """A frame of HIT-UAV."""
    lines = (line.split() for line in (hit_uav / "labelTxt" / f"{name}.txt").read_text().splitlines())
    rows = [row for row in lines if len(row) > 8 and row[8] not in LEFT_OUT]
    corners = np.array([row[:8] for row in rows], np.float64).reshape(-1, 4, 2)
    return cv2.imread(str(hit_uav / "images" / f"{name}.jpg"))[..., ::-1], corners, [row[8] for row in rows]


def synthetic(seed: int) -> Labelled:
    """A synthetic scene of 1024 × 1024 pixels."""
    image, truth = draw_scene(1024, float(np.random.default_rng(seed).uniform(0.4, 0.65)), seed)
    return image, boxes_to_polygons(truth.boxes), [CLASSES[label] for label in truth.labels]


def window(labelled: Labelled, rng: np.random.Generator) -> Sample:
    """A window, turned and mirrored."""
    image, polygons, names = labelled
    left, top = rng.integers(0, image.shape[1] - SIZE + 1), rng.integers(0, image.shape[0] - SIZE + 1)
    turns = int(rng.integers(4))
    cut, polygons = np.rot90(image[top : top + SIZE, left : left + SIZE], turns), polygons - (left, top)
    for _ in range(turns):  # rot90 takes (x, y) to (y, size - x)
        polygons = np.stack([polygons[..., 1], SIZE - polygons[..., 0]], -1)
    if rng.random() < 0.5:
        cut, polygons = cut[:, ::-1], np.stack([SIZE - polygons[..., 0], polygons[..., 1]], -1)
    light = cut * rng.uniform(0.85, 1.15) + rng.uniform(-10, 10)
    return light.clip(0, 255).astype(np.uint8), polygons, names, NOTHING


def inside(polygons: Polygons) -> NDArray[np.bool_]:
    """Which outlines have 0.6 of their area inside a crop."""
    areas = []
    for corners in (polygons, polygons.clip(0, SIZE)):
        (ax, ay), (bx, by) = (corners[:, 2] - corners[:, 0]).T, (corners[:, 3] - corners[:, 1]).T  # the diagonals
        areas.append(np.abs(ax * by - ay * bx))
    return areas[1] >= 0.6 * np.maximum(areas[0], 1e-6)


def losses(model: Any, samples: list[Sample], classes: tuple[str, ...]) -> Tensor:
    """Sum of mmrotate's training losses of a batch."""
    images = torch.from_numpy(np.stack([sample[0] for sample in samples])).permute(0, 3, 1, 2).float()
    images = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    shape = (SIZE, SIZE, 3)
    meta = {"img_shape": shape, "ori_shape": shape, "pad_shape": shape, "scale_factor": np.ones(4, np.float32)}
    boxes, labels, ignored = [], [], []
    for _, polygons, names, rest in samples:
        kept = inside(polygons)
        numbers = np.array([classes.index(name) for name in names], np.int64)
        boxes.append(torch.from_numpy(polygons_to_boxes(polygons[kept])).float())
        labels.append(torch.from_numpy(numbers[kept]))
        ignored.append(torch.from_numpy(polygons_to_boxes(np.concatenate([rest, polygons[~kept]]))).float())
    found = model.forward_train(
        images.contiguous(memory_format=torch.channels_last),
        *([meta] * len(samples), boxes, labels),
        gt_bboxes_ignore=ignored,
    )
    return sum(sum(value) if isinstance(value, list) else value for name, value in found.items() if "loss" in name)


class Kept:
    """Features of a model that is being trained, and how far those of some images are from what they were at first."""

    def __init__(self, model: Any) -> None:
        self._now, self._first = halved(model.extract_feat), halved(copy.deepcopy(model).eval().extract_feat)
        self.number = 0  # images at the end of a batch that are to stay
        self.distance = torch.zeros(())

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """See mmdet's ``extract_feat``; sets ``distance``, the squared change in parts of the square, over levels."""
        levels = self._now(images)
        if self.number:
            with torch.no_grad():
                first = self._first(images[-self.number :])
            pairs = ((level[-self.number :], was) for level, was in zip(levels, first, strict=True))
            self.distance = sum((((now - was) ** 2).mean() / (was**2).mean() for now, was in pairs), torch.zeros(()))
        return levels


def trainable(checkpoint: Checkpoint) -> nn.Module:
    """The detector of the weights, frozen as far as the module says."""
    config = model_config(get_recipe(checkpoint.card.recipe), len(checkpoint.card.classes))
    config["train_cfg"]["rcnn"]["sampler"]["num"] = 256
    config["train_cfg"]["rcnn"]["assigner"]["ignore_iof_thr"] = 0.5
    config["train_cfg"]["rpn_proposal"].update(nms_pre=600, max_per_img=600)
    model: Any = build_mmrotate(config)
    model.load_state_dict(checkpoint.state, strict=False)
    model.train().to(memory_format=torch.channels_last)
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))
    return model


def main(
    sen2ships: Annotated[Path, typer.Argument(help="Folder of harbours: a.tif with a.geojson beside it.")],
    hit_uav: Annotated[Path, typer.Argument(help="Folder of HIT-UAV.")],
    out: Annotated[Path, typer.Argument(help="Weight file to write.")],
    weights: Annotated[str, typer.Option(help="Weights to start from.")] = "legnet-nano",
    hold: Annotated[str, typer.Option(help="Harbours to leave out: a,b.")] = "",
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 400,
    mix: Annotated[str, typer.Option(help="Crops of harbours, HIT-UAV and synthetic scenes in a step.")] = "3,1,1",
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 8e-4,
    keep: Annotated[float, typer.Option(help="Weight of features that shall stay.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of all choices.")] = 0,
) -> None:
    """Train and write the weights."""
    torch.manual_seed(seed)
    rng, numbers = np.random.default_rng(seed), [int(number) for number in mix.split(",")]
    paths = [path for path in sorted(sen2ships.glob("*.tif")) if path.stem not in hold.split(",")]
    harbours = [open_harbour(path) for path in paths]
    donors = [harbour for harbour in harbours if harbour.alone]
    weight = np.sqrt([len(harbour.ships) for harbour in harbours])
    frames = (hit_uav / "splits" / "train.txt").read_text().split()
    scenes = [synthetic(1000 + index) for index in range(48 if numbers[2] else 0)]
    checkpoint = read_checkpoint(fetch(weights))
    model: Any = trainable(checkpoint)
    average = copy.deepcopy(model).eval()
    model.extract_feat = kept = Kept(model)
    kept.number = numbers[1] + numbers[2] if keep else 0
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)

    def harbour_sample() -> Sample:
        harbour: Harbour = harbours[rng.choice(len(harbours), p=weight / weight.sum())]
        image, ships, ignored = crop(harbour, donors, SIZE, GSD, rng)
        return image, ships, ["ship"] * len(ships), ignored

    for step in range(steps):
        done = step / steps
        rate = lr * min(1, (step + 1) / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        samples = [harbour_sample() for _ in range(numbers[0])]
        samples += [window(frame(hit_uav, str(rng.choice(frames))), rng) for _ in range(numbers[1])]
        samples += [window(scenes[rng.integers(len(scenes))], rng) for _ in range(numbers[2])]
        loss = losses(model, samples, checkpoint.card.classes) + keep * kept.distance
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if nn.utils.clip_grad_norm_(parameters, 20).isfinite():  # each block multiplies: a bright crop may overflow
            optimizer.step()
        follow(average, model, step + 1, 0.99)
        if (step + 1) % 25 == 0:
            change = float(kept.distance)
            typer.echo(f"step {step + 1}, loss {float(loss):.3f}, features changed {change:.3f}, lr {rate:.2e}")
    trained_on = f"{TRAINED_ON}; {HARBOURS}"
    card = replace(checkpoint.card, name=out.stem, gsd=(0.4, GSD), trained_on=trained_on, data_sha256=None)
    save_checkpoint(out, average.state_dict(), card, torch.float16)


if __name__ == "__main__":
    typer.run(main)
