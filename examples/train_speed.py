"""Time training steps against mmrotate's own loop: the same model, batch, images and transforms, in turn.

    uv run examples/train_speed.py                                    # a few minutes
    uv run examples/train_speed.py --recipe oriented-rcnn/legnet-tiny --tile 1024 --batch 2

Each run is a process of its own, set up as ``legnet train`` and mmrotate's tools/train.py set it up. mmrotate trains
with mmcv's runner and hooks, in float32. It runs on the operators that are installed: mmcv's compiled ones where there
are any, else this package's, which are quicker on a CPU.
"""

from __future__ import annotations

import copy
import logging
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer
from make_scene import CLASSES, draw_scene

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.detectors.mmrotate.build import build_mmrotate
from legnet_cli.detectors.mmrotate.door import import_mm, quiet
from legnet_cli.detectors.weights.model_config import model_config
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.process import keep_freed
from legnet_cli.engine.train import TrainConfig, train

SKIPPED = 3  # first steps of a run, in which buffers and worker processes are made
Timings = list[tuple[float, float]]  # seconds of a step, and of these waiting for data


def draw_tiles(root: Path, count: int, side: int) -> None:
    """Drawn scenes as training tiles in the layout of mmrotate's DOTA."""
    for name in ("images", "annfiles"):
        (root / name).mkdir(parents=True)
    for seed in range(count):
        image, objects = draw_scene(side, 0.5, seed)
        cv2.imwrite(str(root / "images" / f"{seed}.png"), image[..., ::-1])
        rows = [
            " ".join(f"{value:.1f}" for value in polygon.ravel()) + f" {CLASSES[label]} 0\n"
            for polygon, label in zip(boxes_to_polygons(objects.boxes), objects.labels, strict=True)
        ]
        (root / "annfiles" / f"{seed}.txt").write_text("".join(rows))


def ours(root: Path, out: Path, recipe: str, batch: int, workers: int, steps: int, transforms: str) -> Timings:
    """Steps of ``legnet train``."""
    keep_freed()
    rows: Timings = []
    clock = [time.perf_counter()]

    def note(step: object) -> None:
        now = time.perf_counter()
        rows.append((now - clock[0], getattr(step, "waiting") * (now - clock[0])))  # noqa: B009
        clock[0] = now

    epochs = -(-steps // max(1, len(list((root / "images").iterdir())) // batch))
    settings = TrainConfig(
        data=root,
        out=out,
        recipe=recipe,
        weights="none",
        classes=CLASSES,
        epochs=epochs,
        batch=batch,
        workers=workers,
        device="cpu",
        overrides=(f"transforms={transforms}",),
        overwrite=True,
    )
    train(settings, note)
    return rows[SKIPPED:steps]


def stock_config(recipe: str) -> Any:  # mmcv's Config
    """The config of mmrotate's that a recipe's model is made from."""
    import_mm()
    import mmrotate
    from mmcv import Config

    folder = Path(mmrotate.__file__).parent / ".mim" / "configs"
    with quiet():
        return Config.fromfile(str(next(folder.glob(f"*/{get_recipe(recipe).stock}.py"))))


def theirs(root: Path, recipe: str, batch: int, workers: int, steps: int, side: int) -> Timings:
    """Steps of mmrotate's loop."""
    import_mm()
    with quiet():
        from mmcv.parallel import MMDataParallel
        from mmcv.runner import EpochBasedRunner, Hook, build_optimizer
        from mmdet.datasets import build_dataloader
        from mmrotate.datasets import build_dataset

    config = stock_config(recipe)
    data = copy.deepcopy(config.data.train)
    data.update(ann_file=str(root / "annfiles"), img_prefix=str(root / "images"), classes=CLASSES)
    data.pipeline[2].img_scale = (side, side)
    model = build_mmrotate(model_config(get_recipe(recipe), len(CLASSES)))
    rows: Timings = []

    class Clock(Hook):
        def before_run(self, runner: object) -> None:
            self.last = time.perf_counter()

        def before_iter(self, runner: object) -> None:
            self.waited = time.perf_counter() - self.last

        def after_iter(self, runner: object) -> None:
            now = time.perf_counter()
            rows.append((now - self.last, self.waited))
            self.last = now

    with quiet():
        model.init_weights()
        loader = build_dataloader(build_dataset(data), batch, workers, num_gpus=1, dist=False, seed=0)
        parallel = MMDataParallel(model.train(), device_ids=[-1])
        optimizer = build_optimizer(parallel, {"type": "AdamW", "lr": 1e-4, "weight_decay": 0.05})
        runner = EpochBasedRunner(
            parallel, optimizer=optimizer, logger=logging.getLogger("quiet"), max_epochs=-(-steps // len(loader))
        )
        runner.register_training_hooks(config.lr_config, config.optimizer_config)
        runner.register_hook(Clock(), priority="VERY_LOW")
        runner.run([loader], [("train", 1)])
    return rows[SKIPPED:steps]


def alone(loop: Callable[..., Timings], *arguments: object) -> Timings:
    """Run a loop in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), fork_readers) as pool:
        return pool.submit(loop, *arguments).result()


def fork_readers() -> None:
    """Let the processes that read images be forked, as by a program started by hand on Linux."""
    multiprocessing.set_start_method("fork", force=True)


def main(
    recipe: Annotated[str, typer.Option(help="As legnet models lists them.")] = "oriented-rcnn/legnet-nano",
    tile: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 512,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 2,
    steps: Annotated[int, typer.Option(help="Steps of a run, the first three uncounted.")] = 12,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 1,
    rounds: Annotated[int, typer.Option(help="Runs of each loop, in turn.")] = 3,
) -> None:
    """Print images per second and the share of waiting of both loops, and the ratio round by round."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tiles")
        draw_tiles(root, max(8, batch * steps), tile)
        flips = stock_config(recipe).data.train.pipeline[3]
        transforms = str([dict(flips)]).replace("'", '"')
        for number in range(rounds):
            medians = []
            for name, rows in (
                ("legnet", alone(ours, root, Path(folder, "run"), recipe, batch, workers, steps, transforms)),
                ("mmrotate", alone(theirs, root, recipe, batch, workers, steps, tile)),
            ):
                seconds = statistics.median(second for second, _ in rows)
                waiting = sum(wait for _, wait in rows) / sum(second for second, _ in rows)
                typer.echo(f"round {number + 1}: {name:8} {batch / seconds:6.2f} img/s, {waiting:.0%} waiting for data")
                medians.append(seconds)
            ratios.append(medians[1] / medians[0])
    typer.echo(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    typer.run(main)
