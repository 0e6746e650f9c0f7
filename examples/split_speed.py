"""Time `legnet split` against mmrotate's splitter: same images, same number of workers, PNG tiles from both.

    uv run examples/split_speed.py --images 8 --workers 2 --repeat 3

For Linux. Also told: peak memory of all processes together, the size of the tiles, whether both wrote the same pixels
and labels, and the floor: what decoding the images and encoding the tiles takes, with OpenCV and with ours.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data.png import TileEncoder
from legnet_cli.engine.split.cutting import windows
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile

SIZE = (6000, 5000)
TILE, OVERLAP = 1024, 200
OURS = """
import sys
from pathlib import Path
from legnet_cli.engine.split import SplitConfig, split
split(SplitConfig(Path(sys.argv[1]), Path(sys.argv[2]), workers=int(sys.argv[3])))
"""


def main(
    images: Annotated[int, typer.Option(help="Images of 6000 × 5000 pixels.")] = 8,
    workers: Annotated[int, typer.Option(help="Processes of mmrotate, threads of legnet.")] = 2,
    repeat: Annotated[int, typer.Option(help="Runs of each, in turns; the fastest counts.")] = 3,
) -> None:
    """Time both splitters and print the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(images):
            _make_image(root / "data", number)
        peak = {"mmrotate": 0.0, "legnet": 0.0}
        best = {name: np.full(3, np.inf) for name in ("mmrotate", "legnet")}
        for number in range(repeat):
            for name in best:
                found = _measure(_command(name, root / "data", root / f"{name}{number}", workers))
                typer.echo("{:9} {:6.2f} s, {:6.2f} s of processors, {:5.0f} MB".format(name, *found))
                best[name] = np.minimum(best[name], found)
                peak[name] = max(peak[name], found[2])
        _compare(root / "mmrotate0", root / "legnet0")
        time_ratio, processor_ratio, _ = best["mmrotate"] / best["legnet"]
        typer.echo(f"legnet is {time_ratio:.2f} times as fast, {processor_ratio:.2f} by processor time")
        typer.echo(f"it takes {peak['legnet'] / peak['mmrotate']:.2f} of the memory")
        _floor(root / "data" / "images" / "0.png", images, workers)


def _make_image(root: Path, number: int) -> None:
    """An image as hard to compress as aerial ones are, with 300 objects."""
    rng = np.random.default_rng(number)
    ground = cv2.resize(rng.uniform(40, 200, (50, 60, 3)), SIZE, interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 3, (*SIZE[::-1], 1)) + rng.normal(0, 1, (*SIZE[::-1], 3))
    image = np.clip(ground + grain, 0, 255).astype(np.uint8)
    boxes = [rng.uniform(0, side, 300) for side in SIZE]
    boxes += [rng.uniform(10, 90, 300), rng.uniform(5, 40, 300), rng.uniform(-1.5, 1.5, 300)]
    quads = boxes_to_polygons(np.stack(boxes, 1)).round(1)
    for corners in quads:
        cv2.fillPoly(image, [corners.astype(np.int32)], rng.integers(0, 255, 3).tolist())
    for name in ("images", "labelTxt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / "images" / f"{number}.png"), image)
    lines = "".join(f"{' '.join(map(str, corners))} ship 0\n" for corners in quads.reshape(-1, 8))
    (root / "labelTxt" / f"{number}.txt").write_text(lines)


def _command(name: str, data: Path, out: Path, workers: int) -> list[str]:
    if name == "legnet":
        return [sys.executable, "-c", OURS, str(data), str(out), str(workers)]
    package = importlib.util.find_spec("mmrotate")
    assert package is not None
    assert package.origin is not None
    script = Path(package.origin).parent / ".mim/tools/data/dota/split/img_split.py"
    places = ["--img-dirs", data / "images", "--ann-dirs", data / "labelTxt", "--save-dir", out]
    sizes = ["--sizes", TILE, "--gaps", OVERLAP, "--padding-value", 104, 116, 124, "--nproc", workers]
    return [str(part) for part in (sys.executable, script, *places, *sizes)]


def _measure(command: list[str]) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of processors, and peak MB of all processes, shared pages counted once."""
    start, used, peak = time.perf_counter(), _processor_seconds(), 0.0
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while run.poll() is None:
            peak = max(
                peak, sum(_memory(entry) for entry in Path("/proc").glob("[0-9]*") if _session(entry) == run.pid)
            )
            time.sleep(0.1)
    if run.returncode:
        raise typer.Exit(run.returncode)
    return time.perf_counter() - start, _processor_seconds() - used, peak


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _session(process: Path) -> int:
    try:
        return os.getsid(int(process.name))
    except (OSError, ValueError):
        return 0


def _memory(process: Path) -> float:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _compare(theirs: Path, ours: Path) -> None:
    same = sorted(p.name for p in theirs.glob("images/*")) == sorted(p.name for p in ours.glob("images/*"))
    sizes = [0, 0]
    for path in sorted(theirs.glob("images/*")):
        other = ours / "images" / path.name
        same &= np.array_equal(cv2.imread(str(path)), cv2.imread(str(other)))
        sizes = [sizes[0] + path.stat().st_size, sizes[1] + other.stat().st_size]
    for path in theirs.glob("annfiles/*"):
        same &= path.read_bytes() == (ours / "annfiles" / path.name).read_bytes()
    typer.echo(f"{len(list(ours.glob('images/*')))} tiles, {'the same' if same else 'DIFFERENT'} pixels and labels")
    typer.echo(f"{sizes[1] / sizes[0]:.3f} of their bytes")


def _floor(path: Path, images: int, workers: int) -> None:
    """Print what decoding and encoding alone take, from the processor seconds of one image."""
    tiles = windows(*SIZE, [(TILE, OVERLAP)])
    image = cv2.imread(str(path))
    times = {
        ("OpenCV", "decode"): _seconds(lambda: cv2.imread(str(path))),
        ("OpenCV", "encode"): _seconds(lambda: [cv2.imencode(".png", _part(image, t)) for t in tiles]),
        ("ours", "decode"): _seconds(lambda: _read_strips(path)),
        ("ours", "encode"): _seconds(lambda: _encode_tiles(image, tiles)),
    }
    for name in ("OpenCV", "ours"):
        decode, encode = (times[name, what] * images / workers for what in ("decode", "encode"))
        typer.echo(f"floor with {name}: {decode:.2f} s to decode + {encode:.2f} s to encode")


def _read_strips(path: Path) -> None:
    with Scene.open(str(path)) as scene:
        for row in range(0, SIZE[1], TILE):
            scene.read(Tile(row, 0, min(TILE, SIZE[1] - row), SIZE[0]))


def _encode_tiles(image: np.ndarray, tiles: list[Tile]) -> None:
    encoder = TileEncoder(tiles)
    for tile in tiles:
        encoder.encode(tile, _part(image, tile))


def _part(image: np.ndarray, tile: Tile) -> np.ndarray:
    return image[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]


def _seconds(work: object, repeat: int = 3) -> float:
    assert callable(work)
    found = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


if __name__ == "__main__":
    typer.run(main)
