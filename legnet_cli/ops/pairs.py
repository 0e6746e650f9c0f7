"""Which boxes could overlap: index pairs from a sweep over horizontal strips, in linear memory.

The axis-aligned bounds of every box are entered in each strip of the plane that they reach; inside a strip
the entries are sorted by their left ends, so that the partners of an entry are the run of entries whose left
end lies within its width. Strips are as high as the mean box, which keeps the entries under three a box
whatever the mix of sizes. Runs are expanded a chunk at a time: no list of all pairs is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Index pairs expanded at once: large enough to hide the cost of a call, small enough for the caches of a CPU.
_CHUNK = {"cpu": 1 << 16, "cuda": 1 << 21}
_KEY_BITS = 31  # bits of a sort key that hold the position within a strip; the strip's number is above them
_MAX_STRIPS = 1 << 16
_TINY = 1e-100


@dataclass(frozen=True)
class Grid:
    """Strips that hold two or more sets of bounds; each group has strips of its own height.

    Attributes:
        left, top: () lowest coordinates.
        x_scale: () steps of a sort key per pixel.
        height: (g,) height of the strips of a group, pixels.
        base: (g,) number of the first strip of a group.
    """

    left: Tensor
    top: Tensor
    x_scale: Tensor
    height: Tensor
    base: Tensor

    @staticmethod
    def around(bounds: Tensor, group: Tensor, groups: int) -> Grid:
        """A grid for (n, 4) finite bounds x1, y1, x2, y2 (n > 0) and their (n,) groups, each below ``groups``."""
        left, top = bounds[:, 0].min(), bounds[:, 1].min()
        width, span = bounds[:, 2].max() - left, bounds[:, 3].max() - top
        sizes = bounds.new_zeros(groups).index_add_(0, group, bounds[:, 3] - bounds[:, 1])
        mean = sizes / torch.bincount(group, minlength=groups).clamp(min=1)
        most = max(1, min(_MAX_STRIPS, (1 << 32) // groups - 2))
        height = mean.clamp(min=(span / most).clamp(min=_TINY))
        strips = (span / height).long() + 1
        return Grid(left, top, ((1 << _KEY_BITS) - 1) / width.clamp(min=_TINY), height, strips.cumsum(0) - strips)


@dataclass(frozen=True)
class Entries:
    """Bounds entered in the strips they reach, sorted by strip and left end; all (e,).

    Attributes:
        box: index of the bounds.
        low, high: sort keys of their left and right ends in this strip.
        top, bottom: their vertical ends, pixels.
        first: whether this strip is the topmost that the bounds reach.
    """

    box: Tensor
    low: Tensor
    high: Tensor
    top: Tensor
    bottom: Tensor
    first: Tensor

    @staticmethod
    def of(grid: Grid, bounds: Tensor, group: Tensor) -> Entries:
        """Enter (n, 4) bounds x1, y1, x2, y2 of (n,) groups in the strips of ``grid``."""
        x1, y1, x2, y2 = bounds.unbind(1)
        height = grid.height[group]
        start = ((y1 - grid.top) / height).long()
        count = ((y2 - grid.top) / height).long() - start + 1
        box = torch.repeat_interleave(count)
        rank = torch.arange(len(box), device=box.device) - (count.cumsum(0) - count)[box]
        strip = (start + grid.base[group])[box] + rank
        low, order = ((strip << _KEY_BITS) + ((x1 - grid.left) * grid.x_scale).long()[box]).sort()
        box = box[order]
        high = (strip[order] << _KEY_BITS) + ((x2 - grid.left) * grid.x_scale).long()[box]
        return Entries(box, low, high, y1[box], y2[box], rank[order] == 0)


@dataclass(frozen=True)
class Runs:
    """For some entries of ``one``, the runs ``start:stop`` of entries of ``other`` that their width meets.

    Attributes:
        one, other: entries of the same grid.
        owner: (r,) entries of ``one`` that own a run.
        start, stop: (r,) the runs, none of them empty.
        total: how many pairs the runs hold.
    """

    one: Entries
    other: Entries
    owner: Tensor
    start: Tensor
    stop: Tensor
    total: int

    @staticmethod
    def of(one: Entries, other: Entries, start: Tensor, stop: Tensor) -> Runs:
        """Runs of all entries of ``one``, where not empty."""
        owner = (stop > start).nonzero().squeeze(1)
        start, stop = start[owner], stop[owner]
        return Runs(one, other, owner, start, stop, int((stop - start).sum()))

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Chunks (k,), (k,) of the bounds that meet, each pair once: index into ``one``, index into ``other``."""
        one, other = self.one, self.other
        count = self.stop - self.start
        chunk = _CHUNK.get(count.device.type, _CHUNK["cpu"])
        sizes = torch.unique_consecutive((count.cumsum(0) - count) // chunk, return_counts=True)[1].tolist()
        parts = (torch.split_with_sizes(column, sizes) for column in (self.owner, self.start, count))
        for owner, start, many in zip(*parts, strict=True):
            run = torch.repeat_interleave(many)
            shift = start - (many.cumsum(0) - many)
            p = owner.index_select(0, run)
            q = torch.arange(len(run), device=run.device).add_(shift.index_select(0, run))
            meet = one.top.index_select(0, p) <= other.bottom.index_select(0, q)
            meet &= other.top.index_select(0, q) <= one.bottom.index_select(0, p)
            # two bounds that share several strips are a pair in the first of these only
            meet &= one.first.index_select(0, p) | other.first.index_select(0, q)
            found = meet.nonzero().squeeze(1)
            p, q = p.index_select(0, found), q.index_select(0, found)
            yield one.box.index_select(0, p), other.box.index_select(0, q)


def self_runs(bounds: Tensor, group: Tensor, groups: int) -> Runs:
    """Runs that hold each unordered pair of (n, 4) finite bounds of one group that touch; n > 0, ``group`` is (n,)."""
    entries = Entries.of(Grid.around(bounds, group, groups), bounds, group)
    start = torch.arange(1, len(entries.low) + 1, device=bounds.device)
    return Runs.of(entries, entries, start, torch.searchsorted(entries.low, entries.high, right=True))


def cross_pairs(
    bounds1: Tensor, bounds2: Tensor, group1: Tensor, group2: Tensor, groups: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks (k,), (k,) of the pairs of one group that touch, of (n, 4) and (m, 4) finite bounds, n, m > 0."""
    grid = Grid.around(torch.cat([bounds1, bounds2]), torch.cat([group1, group2]), groups)
    one, two = Entries.of(grid, bounds1, group1), Entries.of(grid, bounds2, group2)
    # a pair belongs to the run of whichever starts further left, of the first where they start together
    start, stop = torch.searchsorted(two.low, one.low), torch.searchsorted(two.low, one.high, right=True)
    yield from Runs.of(one, two, start, stop).pairs()
    start, stop = torch.searchsorted(one.low, two.low, right=True), torch.searchsorted(one.low, two.high, right=True)
    for j, i in Runs.of(two, one, start, stop).pairs():
        yield i, j
