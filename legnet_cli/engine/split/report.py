"""What a split tells about itself: counts, warnings, and the contact sheet."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from legnet_cli.data.labels import IGNORED, Problem
from legnet_cli.data.tile_notes import CUT
from legnet_cli.engine.split.jobs import tile_paths
from legnet_cli.engine.split.plan import Cut, SplitPlan
from legnet_cli.errors import counted

SHEET = "contact_sheet.png"
SIZE_EDGES = (0, 8, 16, 32, 64, 128, 256, 512)  # pixels: bins of the square root of an object's area


@dataclass(frozen=True)
class SplitCounts:
    """Contents of one split.

    Attributes:
        tiles: written.
        empty: those without objects.
        objects: in tiles; one that lies in several counts for each. Ignored regions are none.
        cut: those that a tile cuts.
        classes: objects of each class, and ignored regions.
        sizes: objects by the square root of their area in pixels.
        source: images that the tiles come from.
    """

    tiles: int
    empty: int
    objects: int
    cut: int
    classes: dict[str, int]
    sizes: dict[str, int]
    source: int


def count_tiles(plan: SplitPlan, classes: Sequence[str]) -> dict[str, SplitCounts]:
    """Counts of each split, in the order in which the splits come up."""
    groups: dict[str, list[tuple[Sequence[str], Cut]]] = {}
    sources: Counter[str] = Counter()
    for part in plan.images:
        for cut in part.cuts:
            groups.setdefault(cut.split, []).append((part.image.names, cut))
        sources.update({cut.split for cut in part.cuts})
    return {name: _count(groups[name], classes, sources[name]) for name in groups}


def _count(cuts: Sequence[tuple[Sequence[str], Cut]], classes: Sequence[str], source: int) -> SplitCounts:
    found = Counter(names[i] for names, cut in cuts for i in cut.found.index.tolist())
    real = [np.array([names[i] != IGNORED for i in cut.found.index], np.bool_) for names, cut in cuts]
    quads = np.concatenate([cut.found.quads[kept] for kept, (_, cut) in zip(real, cuts, strict=True)])
    sides = np.sqrt(shapely.area(shapely.polygons(quads.astype(np.float64))))
    bins, _ = np.histogram(sides, (*SIZE_EDGES, np.inf))
    spans = [f"{low}-{high}" for low, high in itertools.pairwise(SIZE_EDGES)]
    return SplitCounts(
        tiles=len(cuts),
        empty=sum(not kept.any() for kept in real),
        objects=len(quads),
        cut=sum(int(cut.found.cut.sum()) for _, cut in cuts),
        classes={name: found[name] for name in classes},
        sizes=dict(zip([*spans, f"{SIZE_EDGES[-1]}-"], bins.tolist(), strict=True)),
        source=source,
    )


def warnings(plan: SplitPlan, src: Path) -> Iterator[Problem]:
    """What the tiles do not hold of the dataset, and why."""
    if plan.homeless:
        which = f"no tile has 0.7 of the area of {plan.homeless} of {counted(plan.objects, 'object')}"
        yield Problem(str(src), f"{which}: a larger --tile or --overlap, or a further --scale below 1, would hold them")
    pairs = ((part.image.difficult, cut.found) for part in plan.images for cut in part.cuts)
    rounded = sum(int(((f.difficult == CUT) & ~f.cut & (difficult[f.index] != CUT)).sum()) for difficult, f in pairs)
    if rounded:
        which = f"{counted(rounded, 'object')} with difficulty 2, though wholly inside of a tile"
        yield Problem(str(src), f"{which}: leave out --like-mmrotate to mark only what is cut")
    if plan.between:
        yield Problem(str(src), f"left out {counted(plan.between, 'tile')} on ground of both training and validation")
    if plan.blank:
        yield Problem(str(src), f"left out {counted(plan.blank, 'tile')} with only ignored ground")
    if plan.background:
        yield Problem(str(src), f"left out {counted(plan.background, 'tile')} without objects, as --background says")


def draw_sheet(folder: Path, plan: SplitPlan, classes: Sequence[str], format: str) -> bool:
    """Draw the contact sheet of the tiles in ``folder``; false if no tile has objects to show."""
    # loads matplotlib, whose memory is better not taken while tiles are cut
    from legnet_cli.engine.split.contact_sheet import choose_tiles, write_contact_sheet

    index = {name: i for i, name in enumerate(classes)}
    cuts = [(part.image.names, cut) for part in plan.images for cut in part.cuts]
    labels = [np.array([index[names[i]] for i in cut.found.index], np.int64) for names, cut in cuts]
    chosen = choose_tiles(labels)
    if not chosen:
        return False
    shown = [
        (tile_paths(folder, cuts[i][1], format)[0], cuts[i][1].found.quads.astype(np.float64), labels[i])
        for i in chosen
    ]
    write_contact_sheet(folder / SHEET, shown, classes)
    return True
