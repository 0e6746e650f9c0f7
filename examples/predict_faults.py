"""Break searches on purpose, and compare what they write with what an undisturbed one writes.

    uv run examples/predict_faults.py workers --rounds 50
    uv run examples/predict_faults.py command --rounds 5
    uv run examples/predict_faults.py memory
    uv run examples/predict_faults.py node
    uv run examples/predict_faults.py share --latency 0.05

For Linux. Eight small scenes; two tiles of each are taken from the example scene, the others are plain.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
import typer
from numpy.typing import NDArray

from legnet_cli.boxes import Detections
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.predict import PredictConfig, predict, read_status
from legnet_cli.engine.predict import run as search
from legnet_cli.engine.predict import workers as searchers
from legnet_cli.engine.predict.job import job_folder

TILE = 128
SCENES, SHAPE = 8, (3, 5 * TILE, 8 * TILE)  # 40 tiles: a block of 32, and one of 8
FILLED = ((0, 3), (4, 6))  # rows and columns of tiles
QUICK = "LEGNET_QUICK"  # in the environment of all processes: search without a network
app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@contextmanager
def scenes() -> Iterator[PredictConfig]:
    """What is searched, into ``out.csv`` of a folder of its own; a file of the expected bytes lies beside it."""
    os.environ["OMP_NUM_THREADS"] = "1"  # sums in the same order, whoever makes them
    torch.set_num_threads(1)
    with rasterio.open(Path(__file__).with_name("scene.tif")) as file:
        example = file.read()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(SCENES):
            pixels = np.full(SHAPE, 50, np.uint8)
            for row, col in FILLED:
                window = np.s_[:, row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
                top, left = TILE * number, 250 * row
                pixels[window] = example[:, top : top + TILE, left : left + TILE]
            count, height, width = SHAPE
            size = {"count": count, "height": height, "width": width, "dtype": "uint8"}
            place = rasterio.Affine(0.5, 0, 500_000 + 300 * number, 0, -0.5, 5_000_000)
            path = Path(folder) / f"{number}.tif"
            with rasterio.open(path, "w", "GTiff", crs="EPSG:32631", transform=place, **size) as file:
                file.write(pixels)
        out = Path(folder) / "out.csv"
        config = PredictConfig((f"{folder}/*.tif",), out, tile=TILE, overlap=0, score=0.05, device="cpu")
        result = predict(replace(config, out=Path(folder) / "expected.csv"))
        objects = sum(result.counts.values())
        typer.echo(f"undisturbed, one process: {result.seconds:.1f} s, {2 * SCENES} blocks, {objects} objects")
        yield config


def same(config: PredictConfig) -> str:
    """Whether the bytes agree; removes them for the next round."""
    assert config.out is not None
    agree = config.out.read_bytes() == config.out.with_name("expected.csv").read_bytes()
    left = [path.name for path in config.out.parent.glob(".*")]
    config.out.unlink()
    config.out.with_name("out.csv.json").unlink()
    return ("bytes agree" if agree else "BYTES DIFFER") + (f", left: {left}" if left else "")


class Losses(logging.Handler):
    """Counts the blocks that are searched again."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        logging.getLogger("legnet_cli").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line of the log."""
        self.count += "searched again" in record.getMessage()


class QuickDetector:
    """Takes each bright square of 8 pixels for an object: a round of kills takes a second, not minutes."""

    card = ModelCard("quick", "oriented-rcnn/legnet-nano", ("bright",), tile=TILE, overlap=0)
    device, precision, engine, kernels, network = torch.device("cpu"), "fp32", "torch", "direct", None

    def detect(self, images: NDArray[np.uint8]) -> list[Detections]:
        """See :class:`Detector`."""
        found = []
        for image in images:
            time.sleep(0.01)
            mean = image.reshape(TILE // 8, 8, TILE // 8, 8, 3).mean((1, 3, 4))
            row, col = np.nonzero(mean > 100)
            boxes = np.stack([8 * col + 4, 8 * row + 4, 8 + 0 * row, 5 + 0 * row, mean[row, col] / 99 - 1], 1)
            found.append(Detections(boxes, (mean[row, col] / 255).astype(np.float32), np.zeros(len(row), np.int64)))
        return found


def quicken() -> None:
    """Let workers be copies of a process that has loaded everything, without a network."""
    os.environ[QUICK] = "yes"
    be_quick()
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["legnet_cli.engine.predict.run", "legnet_cli.engine.predict.workers"])
    multiprocessing.get_context = lambda kind=None: fork  # type: ignore[method-assign,assignment]


def be_quick() -> None:
    """Have no weights loaded in this process."""
    search.load_detector = searchers.load_detector = lambda *_, **__: QuickDetector()  # type: ignore[assignment]


if __name__ == "__mp_main__" and QUICK in os.environ:  # the process that workers are copies of
    be_quick()


def kill_some(moments: list[float], done: threading.Event, killed: list[int]) -> None:
    """Kill a worker at each of these seconds."""
    start = time.monotonic()
    for moment in sorted(moments):
        if done.wait(max(0.0, start + moment - time.monotonic())):
            return
        for child in random.sample(multiprocessing.active_children(), 1) if multiprocessing.active_children() else ():
            os.kill(child.pid or 0, signal.SIGKILL)
            killed.append(child.pid or 0)


@app.command()
def workers(rounds: int = 50) -> None:
    """Kill -9 of two workers at random moments of each round."""
    quicken()
    with scenes() as config:
        losses, two = Losses(), replace(config, workers=2)
        typer.echo(f"two workers, for the first time: {predict(two).seconds:.1f} s, {same(config)}")
        took = predict(two).seconds
        typer.echo(f"undisturbed, two workers: {took:.1f} s, {same(config)}")
        tally: Counter[str] = Counter()
        for number in range(rounds):
            killed: list[int] = []
            done, before = threading.Event(), losses.count
            moments = [random.Random(number).uniform(0.1, took), random.Random(-number - 1).uniform(0.1, took)]
            thread = threading.Thread(target=kill_some, args=(moments, done, killed))
            thread.start()
            result = predict(two)
            done.set()
            thread.join()
            told = same(config) + (f", {len(result.failures)} FAILED" if result.failures else "")
            tally[told] += 1
            again = losses.count - before
            what = f"{result.seconds:.1f} s, {len(killed)} killed, {again} blocks given out again"
            typer.echo(f"round {number + 1}: {what}, {told}")
        typer.echo(f"{dict(tally)}, {losses.count} blocks given out again")


@app.command()
def command(rounds: int = 5) -> None:
    """Kill -9 of the whole command at a random moment; repeated, it goes on."""
    with scenes() as config:
        run = [sys.executable, "-m", "legnet_cli", "predict", *config.scenes, "-o", str(config.out), "--workers", "2"]
        run += ["--tile", str(TILE), "--overlap", "0", "--score", "0.05", "--device", "cpu", "-q"]
        folder = job_folder(config.out, None)
        for number in range(rounds):
            wanted = random.Random(number).randrange(2 * SCENES)
            process = subprocess.Popen(run)
            while process.poll() is None and len(list(folder.glob("parts/*/*.npz"))) < wanted:
                time.sleep(0.01)
            process.kill()
            process.wait()
            status = read_status(folder)
            assert subprocess.run(run).returncode == 0
            found = f"killed at {status.tiles_done} of {status.tiles_total} tiles, state {status.state}"
            typer.echo(f"round {number + 1}: {found}; repeated: {same(config)}")


def starve(search: Callable[..., object], flag: Path, kill: bool) -> Callable[..., object]:
    """A search that runs out of memory once."""

    def work(*args: object, **more: object) -> object:
        try:
            flag.unlink()
        except FileNotFoundError:
            return search(*args, **more)
        if kill:  # as the system does it
            os.kill(os.getpid(), signal.SIGKILL)
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), most))
        try:
            return search(*args, **more), np.ones(1 << 24)  # which is no longer to be had
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return work


@app.command()
def memory() -> None:
    """A worker that may take no more memory, and one that the system kills for it."""
    be_quick()
    fork = multiprocessing.get_context("fork")  # workers have what is changed here
    multiprocessing.get_context = lambda kind=None: fork  # type: ignore[method-assign,assignment]
    with scenes() as config:
        whole, losses = searchers.search_block, Losses()
        for kind in ("limit", "kill"):
            assert config.out is not None
            (flag := config.out.with_name("flag")).touch()
            searchers.search_block = starve(whole, flag, kind == "kill")  # type: ignore[assignment]
            before = losses.count
            failures = predict(replace(config, workers=2)).failures
            told = f"{len(failures)} failed, {losses.count - before} blocks given out again"
            typer.echo(f"{kind}: {told}, flag used: {not flag.exists()}, {same(config)}")


@app.command()
def node() -> None:
    """A Ray cluster of two nodes, one of which is lost in the middle of the search."""
    from ray.cluster_utils import Cluster

    with scenes() as config:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        other = cluster.add_node(num_cpus=1)
        losses, seen = Losses(), []

        def watch(progress: object) -> None:
            seen.append(progress)
            if len(seen) == SCENES:
                cluster.remove_node(other, allow_graceful=False)
                typer.echo("a node is lost")

        result = predict(replace(config, cluster=cluster.address), watch)
        told = f"{len(result.failures)} failed, {losses.count} blocks given out again"
        typer.echo(f"node: {result.seconds:.1f} s, {told}, {same(config)}")
        cluster.shutdown()


@app.command()
def share(latency: float = 0.05) -> None:
    """A job folder in which each operation takes a while, as on a busy network share; counted by kind."""
    counts: Counter[str] = Counter()
    slow = [0.0]

    def watch(event: str, args: tuple[object, ...]) -> None:
        if args and event.startswith(("open", "os.")) and ".legnet-job" in str(args[0]):
            counts[event] += 1
            time.sleep(slow[0])

    be_quick()
    sys.addaudithook(watch)
    with scenes() as config:
        counts.clear()
        slow[0] = latency
        seconds = predict(config).seconds
        each = sum(counts.values()) / (2 * SCENES)
        typer.echo(f"share, {latency} s an operation: {seconds:.1f} s, {same(config)}")
        typer.echo(f"{sum(counts.values())} operations, {each:.1f} a block: {dict(counts)}")


if __name__ == "__main__":
    app()
