"""Layers computed strip by strip of rows, for a CPU: what lies between them takes a few megabytes, not a hundred."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 64  # of a strip: shorter ones take longer


class StripConv(nn.Conv2d):
    """A convolution of stride 1 that can be computed strip by strip."""

    def forward(self, x: Tensor, above: int | None = None, below: int | None = None) -> Tensor:
        """(B, C, H, W) to (B, out, H', W'); with so many rows of zeros ``above`` and ``below`` as given."""
        if above is None or below is None:
            return super().forward(x)
        padded = F.pad(x, (0, 0, above, below)) if above or below else x
        return F.conv2d(padded, self.weight, self.bias, padding=(0, self.padding[1]))  # type: ignore[arg-type]

    def strips(self, x: Tensor, rows: int = ROWS) -> Iterator[tuple[int, Tensor]]:
        """What becomes of ``x``, so many ``rows`` at a time: the number of the first one, and the part."""
        pad, size, height = int(self.padding[0]), self.kernel_size[0], x.shape[2]
        end = height + 2 * pad - size + 1
        for first in range(0, end, rows):
            top, bottom = first - pad, min(first + rows, end) - pad + size - 1
            yield first, self(x[:, :, max(top, 0) : bottom], max(-top, 0), max(bottom - height, 0))


class Strips(nn.Sequential):
    """Layers in a row that keep the size of maps, and that see ``reach`` rows up and down in all."""

    reach = 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        height = x.shape[2]
        if height <= ROWS:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        out = torch.empty_like(x)
        for first in range(0, height, ROWS):
            top, last = max(first - self.reach, 0), min(first + ROWS, height)
            strip: Tensor = super().forward(x[:, :, top : last + self.reach])  # type: ignore[no-untyped-call]
            out[:, :, first:last] = strip[:, :, first - top : last - top]
        return out
