"""What a split will write, worked out before any pixel is read: tiles, their objects, and the split each goes to."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray

from legnet_cli.data.labels import IGNORED, ImageLabels, Size
from legnet_cli.engine.split.cutting import Objects, TileObjects, windows
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.geo.crs import WGS84, near
from legnet_cli.geo.georef import read_georef
from legnet_cli.tiles import Tile, tile_name, tile_starts

MOST_TILES = 300_000  # of one image
HELD_OUT = ("", "train", "trainval")  # the splits that --val-fraction takes from
_COMPLETE = ("val", "test")  # splits that keep all their empty tiles, for what is measured there must count them
_BLOCK_TILES = (4, 2)  # tiles along a block of --val-fraction; the smaller where there are few
_GEOREFERENCED = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True)
class Cut:
    """One tile to be written.

    Attributes:
        tile: the window; it may reach out of the image.
        name: of its files, without suffix.
        split: the folder it goes to; empty for none.
        found: its objects.
    """

    tile: Tile
    name: str
    split: str
    found: TileObjects


@dataclass(frozen=True)
class ImagePlan:
    """An image and the tiles to be cut from it."""

    image: ImageLabels
    size: Size
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class SplitPlan:
    """All that a split will write, in a fixed order.

    Attributes:
        images: those with tiles.
        objects: of all images.
        homeless: objects that no tile keeps.
        between: tiles left out because they share ground with both training and validation.
        background: empty tiles left out, as was asked.
        blank: tiles left out because all of their ground is ignored.
    """

    images: tuple[ImagePlan, ...]
    objects: int
    homeless: int
    between: int
    background: int
    blank: int = 0


def make_plan(
    images: Sequence[ImageLabels],
    sizes: Sequence[tuple[int, int]],
    *,
    truncated: str = "keep",
    like_mmrotate: bool = False,
    background: float = 1.0,
    val_fraction: float = 0.0,
    seed: int = 0,
    workers: int = 1,
) -> SplitPlan:
    """Choose the tiles of ``images``.

    Args:
        images: with path and size.
        sizes: side and overlap of the windows, in pixels.
        truncated: what becomes of objects that a tile cuts: keep, drop or recut.
        like_mmrotate: round areas as mmrotate does.
        background: share of the empty tiles that is kept, except in validation and test data.
        val_fraction: share of the ground that is set apart for validation.
        seed: of both choices.
        workers: threads.

    Raises:
        ConfigError: validation data exist already, or the images are too few or small to set some apart.
        DataError: two tiles would have the same name.
    """
    with ThreadPoolExecutor(workers) as pool:
        plan_image = partial(_plan_image, sizes=sizes, truncated=truncated, like_mmrotate=like_mmrotate)
        plans = list(pool.map(plan_image, images))
    homeless = sum(
        len(p.image) - len(np.unique(np.concatenate([c.found.index for c in p.cuts]))) for p in plans if p.cuts
    )
    every = sum(len(plan.cuts) for plan in plans)
    plans = [replace(plan, cuts=tuple(cut for cut in plan.cuts if not cut.found.blank)) for plan in plans]
    before = sum(len(plan.cuts) for plan in plans)
    if val_fraction:
        plans = _hold_out(plans, sizes, val_fraction, seed)
    between = before - sum(len(plan.cuts) for plan in plans)
    plans, dropped = _thin_background(plans, background, seed)
    _check_names(plans)
    kept = tuple(plan for plan in plans if plan.cuts)
    objects = sum(name != IGNORED for image in images for name in image.names)
    return SplitPlan(kept, objects, homeless, between, dropped, every - before)


def _plan_image(image: ImageLabels, sizes: Sequence[tuple[int, int]], truncated: str, like_mmrotate: bool) -> ImagePlan:
    if image.size is None:
        raise DataError(f"{image.file}: its size is unknown: check the file")
    tiles = sum(math.prod(side // (size - overlap) + 1 for side in image.size) for size, overlap in set(sizes))
    if tiles > MOST_TILES:
        shown = f"{image.size[0]:,} × {image.size[1]:,} pixels"
        raise DataError(
            f"{image.path}: its header says {shown}, {tiles:,} tiles: check the file, or cut it into parts first"
        )
    objects = Objects(image, truncated, like_mmrotate=like_mmrotate)
    cuts = (
        Cut(tile, tile_name(image.stem, tile), image.split, objects.within(tile))
        for tile in windows(*image.size, sizes)
    )
    return ImagePlan(image, image.size, tuple(cuts))


def _random_key(seed: int, *what: object) -> bytes:
    """A random key for ``what``: sorted by it, things come in an order that depends on nothing but the seed."""
    return hashlib.blake2b("/".join(map(str, (seed, *what))).encode(), digest_size=8).digest()


def _thin_background(plans: list[ImagePlan], share: float, seed: int) -> tuple[list[ImagePlan], int]:
    """``plans`` without all but a ``share`` of their empty tiles, and how many were left out."""
    labelled = {plan.image.split for plan in plans if plan.image.source is not None}
    empty = [
        (plan.image.split, cut.name)
        for plan in plans
        for cut in plan.cuts
        if not len(cut.found.index) and plan.image.split in labelled and cut.split not in _COMPLETE
    ]
    empty.sort(key=lambda key: _random_key(seed, "background", *key))
    dropped = set(empty[round(share * len(empty)) :])
    thinned = [
        replace(plan, cuts=tuple(cut for cut in plan.cuts if (plan.image.split, cut.name) not in dropped))
        for plan in plans
    ]
    return thinned, len(dropped)


def _check_names(plans: Sequence[ImagePlan]) -> None:
    taken: dict[tuple[str, str], ImageLabels] = {}
    for plan in plans:
        for cut in plan.cuts:
            other = taken.setdefault((cut.split, cut.name), plan.image)
            if other is not plan.image:
                raise DataError(
                    f"{plan.image.path}: its tile {cut.name} has the name of one of {other.path}: rename one of them"
                )


@dataclass(frozen=True)
class _Blocks:
    """Rectangles that an image is divided into; ``rows`` and ``cols`` are their edges, 0 and the end included."""

    plan: int
    rows: tuple[int, ...]
    cols: tuple[int, ...]

    @property
    def keys(self) -> list[tuple[int, int, int]]:
        """Image, row and column of each block."""
        return [
            (self.plan, row, col)
            for row, col in itertools.product(range(len(self.rows) - 1), range(len(self.cols) - 1))
        ]

    def area(self, key: tuple[int, int, int]) -> int:
        """Pixels in a block."""
        _, row, col = key
        return (self.rows[row + 1] - self.rows[row]) * (self.cols[col + 1] - self.cols[col])

    def under(self, tile: Tile) -> list[tuple[int, int, int]]:
        """The blocks that a tile lies on."""
        rows, cols = _touched(self.rows, tile.row, tile.height), _touched(self.cols, tile.col, tile.width)
        return [(self.plan, row, col) for row, col in itertools.product(rows, cols)]


def _touched(edges: tuple[int, ...], start: int, length: int) -> list[int]:
    spans = enumerate(itertools.pairwise(edges))
    return [i for i, (low, high) in spans if start < high and start + length > low]


def _hold_out(plans: list[ImagePlan], sizes: Sequence[tuple[int, int]], fraction: float, seed: int) -> list[ImagePlan]:
    """``plans`` with their tiles in ``train`` or ``val``, without those that lie on ground of both."""
    if any(plan.image.split == "val" for plan in plans):
        raise ConfigError("this dataset has validation data of its own: leave out --val-fraction")
    blocks = _choose_blocks(plans, min(sizes), fraction)
    held = _pick(blocks, plans, fraction, seed)
    result = list(plans)
    for index, part in blocks.items():
        cuts = []
        for cut in plans[index].cuts:
            inside = {key in held for key in part.under(cut.tile)}
            if len(inside) == 1:
                cuts.append(replace(cut, split="val" if inside.pop() else "train"))
        result[index] = replace(plans[index], cuts=tuple(cuts))
    return _apart_on_ground(result)


def _choose_blocks(plans: list[ImagePlan], size: tuple[int, int], fraction: float) -> dict[int, _Blocks]:
    chosen = [i for i, plan in enumerate(plans) if plan.image.split in HELD_OUT]
    for tiles in _BLOCK_TILES:
        blocks = {i: _Blocks(i, *(_edges(n, size, tiles) for n in reversed(plans[i].size))) for i in chosen}
        count = sum(len(part.keys) for part in blocks.values())
        if 1 <= round(count * fraction) < count:
            return blocks
    raise ConfigError(
        f"--val-fraction {fraction:g}: the images are too few and too small to set some apart: give another fraction"
    )


def _edges(length: int, size: tuple[int, int], tiles: int) -> tuple[int, ...]:
    """Edges of blocks of about ``tiles`` tiles, at starts of tiles so that few tiles lie across."""
    starts = tile_starts(length, *size)
    count = max(1, round(len(starts) / tiles))
    return (0, *(starts[round(i * len(starts) / count)] for i in range(1, count)), length)


def _pick(blocks: dict[int, _Blocks], plans: list[ImagePlan], fraction: float, seed: int) -> set[tuple[int, int, int]]:
    """The blocks that make up about ``fraction`` of all pixels; one at least, and not all."""
    areas = {key: part.area(key) for part in blocks.values() for key in part.keys}

    def order(key: tuple[int, int, int]) -> bytes:
        return _random_key(seed, "val", plans[key[0]].image.file, *key[1:])

    wanted = fraction * sum(areas.values())
    taken: set[tuple[int, int, int]] = set()
    total = 0.0
    for key in sorted(areas, key=order)[:-1]:
        if not taken or total + areas[key] / 2 <= wanted:
            taken.add(key)
            total += areas[key]
    return taken


def _apart_on_ground(plans: list[ImagePlan]) -> list[ImagePlan]:
    """``plans`` without tiles of ``train`` whose ground a tile of ``val`` from another, overlapping scene shows."""
    footprints = [_footprints(plan) for plan in plans]
    owners = [(i, j) for i, shapes in enumerate(footprints) for j in range(len(shapes))]
    ground = np.concatenate(footprints)
    if len(ground):  # one convention of longitudes for all, that of the first
        reference = shapely.get_coordinates(ground[0])[0, 0]
        ground = shapely.transform(ground, lambda points: near(points, WGS84, reference))
    held = np.array([plans[i].cuts[j].split == "val" for i, j in owners], np.bool_)
    theirs, ours = shapely.STRtree(ground[~held]).query(ground[held], predicate="intersects")
    ours, theirs = np.flatnonzero(~held)[ours], np.flatnonzero(held)[theirs]
    # sheets that only share an edge overlap by rounding
    shared = shapely.area(shapely.intersection(ground[ours], ground[theirs])) > 1e-6 * shapely.area(ground[ours])
    pairs = zip(ours[shared].tolist(), theirs[shared].tolist(), strict=True)
    dropped = {owners[one] for one, other in pairs if owners[one][0] != owners[other][0]}
    return [
        replace(
            plan, cuts=tuple(cut for j, cut in enumerate(plan.cuts) if cut.split != "train" or (i, j) not in dropped)
        )
        for i, plan in enumerate(plans)
    ]


def _footprints(plan: ImagePlan) -> NDArray[np.object_]:
    """Longitude and latitude polygon of each tile; none for an image without a place on the ground."""
    none = np.zeros(0, object)
    path = plan.image.path
    if path is None or path.suffix.lower() not in _GEOREFERENCED or not plan.cuts:
        return none
    try:
        georef = read_georef(path)
    except DataError:  # whoever reads its pixels will say so
        return none
    if georef.crs is None:
        return none
    tiles = [cut.tile for cut in plan.cuts]
    scale = np.array([georef.width, georef.height]) / plan.size
    spans = np.array([(t.col, t.row, t.col + t.width, t.row + t.height) for t in tiles], np.float64)
    x, y = np.minimum(spans[:, [0, 2, 2, 0]], plan.size[0]), np.minimum(spans[:, [1, 1, 3, 3]], plan.size[1])
    corners = georef.to_crs(np.stack([x, y], 2).reshape(-1, 2) * scale, WGS84).reshape(-1, 4, 2)
    shapes: NDArray[np.object_] = shapely.polygons(corners)
    return shapes
