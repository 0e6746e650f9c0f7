"""First stage of the detector that comes with the package (see nano.py): drawn scenes alone (see make_scene.py).

    uv run examples/train_demo.py drawn.safetensors --minutes 60

It shows the path from weights to map on any machine and knows drawn objects only.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from make_scene import CLASSES, draw_scene
from numpy.typing import NDArray
from torch import Tensor, nn

from legnet_cli.boxes import Detections, boxes_to_polygons, polygons_to_boxes
from legnet_cli.detectors.mmrotate.build import build_mmrotate
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import save_checkpoint
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import MEAN, STD, get_recipe

RECIPE = "oriented-rcnn/legnet-nano"
CROP, BATCH, SCENES, SIDE = 256, 4, 64, 1024
PEAK_LR, WARM_UP = 1e-3, 100

Sample = tuple[NDArray[np.uint8], Detections]


def crop(scene: Sample, rng: np.random.Generator) -> Sample:
    """A random window, turned and mirrored; objects with 0.7 of their area inside are kept."""
    image, truth = scene
    x, y = rng.integers(0, image.shape[1] - CROP, 2)
    polygons = boxes_to_polygons(truth.boxes) - (x, y)
    centre = CROP / 2
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    window = np.rot90(image[y : y + CROP, x : x + CROP], turns)
    cut = polygons.clip(0, CROP)
    (ax, ay), (bx, by) = (cut[:, 2] - cut[:, 0]).T, (cut[:, 3] - cut[:, 1]).T  # the diagonals
    area = np.abs(ax * by - ay * bx) / 2
    keep = area >= 0.7 * truth.boxes[:, 2] * truth.boxes[:, 3]
    for _ in range(turns):  # rot90 takes (x, y) to (y, size - x)
        polygons = np.stack([polygons[..., 1], CROP - polygons[..., 0]], -1)
    if mirror:
        window, polygons = window[:, ::-1], np.stack([2 * centre - polygons[..., 0], polygons[..., 1]], -1)
    light = window * rng.uniform(0.7, 1.25) + rng.uniform(-15, 15)
    boxes = polygons_to_boxes(polygons[keep])
    return light.clip(0, 255).astype(np.uint8), Detections(boxes, truth.scores[keep], truth.labels[keep])


def losses(model: Any, samples: list[Sample]) -> Tensor:
    """Sum of mmrotate's training losses of a batch."""
    images = torch.from_numpy(np.stack([image for image, _ in samples])).permute(0, 3, 1, 2).float()
    images = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    shape = (CROP, CROP, 3)
    meta = {"img_shape": shape, "ori_shape": shape, "pad_shape": shape, "scale_factor": np.ones(4, np.float32)}
    boxes = [torch.from_numpy(truth.boxes).float() for _, truth in samples]
    labels = [torch.from_numpy(truth.labels) for _, truth in samples]
    found = model.forward_train(
        images.contiguous(memory_format=torch.channels_last), [meta] * len(samples), boxes, labels
    )
    return sum(sum(value) if isinstance(value, list) else value for name, value in found.items() if "loss" in name)


def halved(extract: Any) -> Any:
    """Backbone and neck in bfloat16, twice as fast on recent CPUs; the heads need float32 for their boxes."""

    def extract_feat(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            return tuple(level.float() for level in extract(images))

    return extract_feat


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int, most: float = 0.998) -> None:
    """Move the running average of the weights towards the model, with a decay of at ``most`` that."""
    decay = min(most, (1 + step) / (10 + step))
    for ours, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:
            ours.copy_(theirs)


def main(
    out: Annotated[Path, typer.Argument(help="Weight file to write.")],
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 60,
    seed: Annotated[int, typer.Option(help="Of scenes, crops and weights.")] = 0,
) -> None:
    """Train and write the weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scenes = [draw_scene(SIDE, float(rng.uniform(0.4, 0.65)), 1000 + seed * SCENES + i) for i in range(SCENES)]
    typer.echo(f"{SCENES} scenes, {sum(len(truth) for _, truth in scenes)} objects")
    recipe = get_recipe(RECIPE)
    model: Any = build_mmrotate(model_config(recipe, len(CLASSES)))
    model.init_weights()
    model.train().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    model.extract_feat = halved(model.extract_feat)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.05)
    start, step, mean = time.monotonic(), 0, math.nan
    while (done := (time.monotonic() - start) / 60 / minutes) < 1:
        rate = PEAK_LR * min(1, (step + 1) / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        loss = losses(model, [crop(scenes[i], rng) for i in rng.integers(0, SCENES, BATCH)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
        step += 1
        follow(average, model, step)
        mean = float(loss) if math.isnan(mean) else 0.98 * mean + 0.02 * float(loss)
        if step % 50 == 0:
            typer.echo(f"step {step}, {done:.0%}, loss {mean:.3f}, lr {rate:.2e}")
        if step % 200 == 0:
            save(out, average)
    save(out, average)


def save(out: Path, model: nn.Module) -> None:
    """Write the weights in half precision with their card."""
    card = ModelCard("drawn", RECIPE, CLASSES, gsd=0.5, licence="Apache-2.0", trained_on="drawn scenes only")
    save_checkpoint(out, model.state_dict(), card, torch.float16)


if __name__ == "__main__":
    typer.run(main)
