"""The work of a split: jobs, each of which reads one image, or a part of one, and writes its tiles."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from legnet_cli.data.labels import ImageLabels
from legnet_cli.data.png import TileEncoder
from legnet_cli.engine.split.cutting import label_text
from legnet_cli.engine.split.plan import Cut, ImagePlan, SplitPlan
from legnet_cli.errors import DataError, reading
from legnet_cli.geo.cuts import BLOCK_CACHE, RawImage, Rolling, reading_order
from legnet_cli.geo.georef import shown_orientation
from legnet_cli.geo.handles import bound_block_cache
from legnet_cli.geo.headers import read_header
from legnet_cli.geo.orientation import as_shown
from legnet_cli.geo.raster import Scene
from legnet_cli.geo.stretch import NEUTRAL
from legnet_cli.tiles import Tile

_JPEG = (".jpg", ".jpeg")
_WHOLE = 1 << 26  # pixels: JPEG files up to this size are decoded at once
_PART = 4  # tiles along a part of an image that is read in parts


class WriteError(DataError):
    """A tile cannot be written."""


class Stopped(Exception):
    """The split was stopped while a job was running."""


@dataclass(frozen=True)
class Job:
    """Tiles of one image that are read together, by rising rows; ``key`` names the job."""

    key: str
    plan: ImagePlan
    cuts: tuple[Cut, ...]


def make_jobs(plans: Sequence[ImagePlan]) -> Iterator[Job]:
    """The jobs for all tiles; their number and keys depend on nothing but the images."""
    for plan in plans:
        path = _path(plan)
        try:
            order = reading_order(path)
        except DataError:  # its one job will say so
            order = "whole"
        parts: dict[int, list[Cut]] = {}
        for cut in plan.cuts:
            start = {"whole": 0, "rows": cut.tile.row, "columns": cut.tile.col}[order]
            parts.setdefault(start // (_PART * plan.cuts[0].tile.width), []).append(cut)
        for part, cuts in sorted(parts.items()):
            yield Job(f"{image_key(plan.image)}/{part}", plan, tuple(cuts))


def image_key(image: ImageLabels) -> str:
    """What tells an image from all others; the keys of its jobs go on from here."""
    return f"{image.split}/{image.file}"


def _read_jpeg(path: Path) -> NDArray[np.uint8] | None:
    """RGB (h, w, 3) of a JPEG file; None if it is too large to be read at once.

    GDAL interpolates colours more coarsely than the libraries that training data are read with elsewhere.

    Raises:
        DataError: the file is damaged.
    """
    (width, height), _ = read_header(path)
    if width * height > _WHOLE:
        return None
    with reading(path, "the file is damaged or cut short, fetch it again"), Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return np.moveaxis(as_shown(np.moveaxis(pixels, 2, 0), shown_orientation(path)), 0, 2)


def make_folders(folder: Path, plan: SplitPlan, labelled: Set[str]) -> None:
    """Make the folders of all tiles; of label files for ``labelled`` splits only."""
    places: set[Path] = set()
    for cut in (cut for part in plan.images for cut in part.cuts):
        image, labels = (path.parent for path in tile_paths(folder, cut, ""))
        places |= {image, labels} if cut.split in labelled else {image}
    for place in sorted(places):
        place.mkdir(parents=True, exist_ok=True)


def _path(plan: ImagePlan) -> Path:
    assert plan.image.path is not None
    return plan.image.path


@dataclass
class Cutter:
    """Does jobs; serves many threads.

    Attributes:
        folder: of the output.
        labelled: the splits that get label files.
        codes: what stands for each class in them.
        format: png (8-bit RGB) or tif (all bands in their own type).
        bands, stretch: which bands become RGB, and how they become 8-bit.
        resample: whether images are read at the size that is planned, not their own.
        workers: threads that do jobs.
        written: told after each tile.
        stop: set it to end the jobs that are running.
    """

    folder: Path
    labelled: Set[str]
    codes: Mapping[str, str]
    format: str
    bands: tuple[int, ...] | None
    stretch: str
    resample: bool
    workers: int
    written: Callable[[], None]
    stop: threading.Event = field(default_factory=threading.Event)
    _scenes: dict[Path, Scene] = field(default_factory=dict)

    def run(self, job: Job) -> None:
        """Write the tiles of ``job`` and their labels.

        Raises:
            DataError: the image cannot be read.
            WriteError: a tile cannot be written.
            Stopped: ``stop`` is set.
        """
        left = min(cut.tile.col for cut in job.cuts)
        right = min(max(cut.tile.col + cut.tile.width for cut in job.cuts), job.plan.size[0])
        with self._source(job) as source:
            bound_block_cache(self.workers * BLOCK_CACHE)
            depth = max(cut.tile.height for cut in job.cuts)
            rolling = Rolling(source.read, left, right, job.plan.size[1], depth)
            for cut in job.cuts:
                if self.stop.is_set():
                    raise Stopped
                pixels = _padded(rolling.window(cut.tile), cut.tile, source.fill)
                self._write(job.plan, cut, pixels, source)
                self.written()

    @contextmanager
    def _source(self, job: Job) -> Iterator[RawImage | _Rgb]:
        path = _path(job.plan)
        if self.format == "tif":
            with RawImage(path) as image:
                yield image
            return
        encoder = TileEncoder(cut.tile for cut in job.cuts)
        plain = self.bands is None and self.stretch in ("auto", "none") and not self.resample
        if path.suffix.lower() in _JPEG and plain:
            pixels = _read_jpeg(path)
            if pixels is not None:
                yield _Rgb(lambda t: pixels[t.row : t.row + t.height, t.col : t.col + t.width], encoder)
                return
        scene = self._scenes.get(path)
        if scene is None:  # two threads may open it at once: they find the same, and one stays
            size = job.plan.size if self.resample else None
            scene = Scene.open(str(path), bands=self.bands, stretch=self.stretch, size=size)
            scene = self._scenes.setdefault(path, scene)
        try:
            yield _Rgb(lambda tile: scene.read(tile)[0], encoder)
        finally:
            scene.close()

    def _write(self, plan: ImagePlan, cut: Cut, pixels: NDArray[Any], source: RawImage | _Rgb) -> None:
        image, labels = tile_paths(self.folder, cut, self.format)
        try:
            # straight to its place in the draft: a job that is cut short is done again from its first tile
            source.write(image, pixels, cut.tile)
            if cut.split in self.labelled:
                text = label_text(cut.found, plan.image.names, self.codes)
                labels.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            reason = error.strerror or " ".join(str(error).split())
            raise WriteError(f"{image}: cannot be written ({reason}): free some space, then repeat") from error


@dataclass(frozen=True)
class _Rgb:
    """An image as 8-bit RGB tiles, with the interface of :class:`RawImage`; ``read`` gives pixels (h, w, 3)."""

    read: Callable[[Tile], NDArray[np.uint8]]
    encoder: TileEncoder
    fill: tuple[int, int, int] = NEUTRAL

    def write(self, path: Path, pixels: NDArray[np.uint8], tile: Tile) -> None:
        path.write_bytes(self.encoder.encode(tile, pixels))


def run_jobs(cutter: Cutter, jobs: Sequence[Job], finish: Callable[[str, str | None], None], *, skip_bad: bool) -> None:
    """Do ``jobs`` in as many threads as ``cutter`` has workers.

    Args:
        cutter: does them.
        jobs: in any order.
        finish: told the key of each job that is done, and what was wrong with its image.
        skip_bad: go on after an image that cannot be read.

    Raises:
        DataError: an image cannot be read, and ``skip_bad`` is false, or a tile cannot be written.
    """

    def work(job: Job) -> None:
        try:
            cutter.run(job)
        except DataError as error:
            if not skip_bad or isinstance(error, WriteError):
                raise
            finish(job.key, str(error))
        else:
            finish(job.key, None)

    jobs = sorted(jobs, key=lambda job: -len(job.cuts))  # a long job must not start last
    with ThreadPoolExecutor(cutter.workers) as pool:
        try:
            for future in as_completed([pool.submit(work, job) for job in jobs]):
                future.result()
        except BaseException:
            cutter.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def tile_paths(folder: Path, cut: Cut, format: str) -> tuple[Path, Path]:
    """The image file and the label file of a tile."""
    place = folder / cut.split
    return place / "images" / f"{cut.name}.{format}", place / "annfiles" / f"{cut.name}.txt"


def _padded(pixels: NDArray[Any], tile: Tile, fill: Any) -> NDArray[Any]:  # noqa: ANN401 - a pixel
    """``pixels`` (h, w, bands) with ``fill`` on the right and below, where the tile reaches out of the image."""
    if pixels.shape[:2] == (tile.height, tile.width):
        return pixels
    whole = np.empty((tile.height, tile.width, pixels.shape[2]), pixels.dtype)
    whole[...] = fill
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole
