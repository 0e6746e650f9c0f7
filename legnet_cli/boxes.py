"""Oriented boxes and detections: one convention everywhere, and conversions to and from the others.

A box is ``cx, cy, w, h, angle``: centre and sides in pixels, ``w >= h``, angle of the side ``w`` in
[-pi/2, pi/2) radians, clockwise on the screen (x to the right, y down). This is mmrotate's ``le90``.
Pixel (0, 0) of an image spans [0, 1) x [0, 1): coordinates count from the outer corner of the first pixel.

Other conventions, each turned into ``le90`` by :func:`to_le90` (the rectangle stays the same one):

=============  ====================  ==============================================================
name           angle range           meaning
=============  ====================  ==============================================================
``le90``       [-90 deg, 90 deg)     of the longer side; ours, and mmrotate's of that name
``le135``      [-45 deg, 135 deg)    of the longer side; mmrotate's of that name
``oc``         (0 deg, 90 deg]       of the side called w, whichever is longer; mmrotate's of that name,
                                     and ``cv2.minAreaRect`` of OpenCV 4.5.1 to 4.12
``opencv``     [-90 deg, 0 deg)      of the side called w; ``cv2.minAreaRect`` before 4.5.1 and from 4.13
``yolo``       [0 deg, 90 deg)       of the side called w; ``xywhr`` as Ultralytics predicts it
=============  ====================  ==============================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

Array = NDArray[np.float64]

_HALF_PI = np.pi / 2
_FEW = 8  # points of a polygon whose pairs are all tried
_MANY = 1000  # corners of a hull whose sides are all tried
CONVENTIONS = ("le90", "le135", "oc", "opencv", "yolo")


@dataclass(frozen=True)
class Detections:
    """Scored oriented boxes of one image or scene.

    Attributes:
        boxes: (n, 5) float64, ``le90``.
        scores: (n,) float32 in [0, 1].
        labels: (n,) int64 class indices.
        quads: (n, 4, 2) corners in pixels, where these need not be rectangles; None for the corners of the boxes.
        views: (n,) float32 share of the views of an image, or of the models, that found each; None for a single one.
    """

    boxes: Array
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    quads: Array | None = None
    views: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if self.boxes.shape != (n, 5) or self.scores.shape != (n,) or self.labels.shape != (n,):
            shapes = (self.boxes.shape, self.scores.shape, self.labels.shape)
            raise ValueError(f"boxes, scores, labels must be (n, 5), (n,), (n,), not {shapes}")
        if self.quads is not None and self.quads.shape != (n, 4, 2):
            raise ValueError(f"quads of {n} boxes must be ({n}, 4, 2), not {self.quads.shape}")
        if self.views is not None and self.views.shape != (n,):
            raise ValueError(f"views of {n} boxes must be ({n},), not {self.views.shape}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Detections:
        """The detections a mask, an index array or a slice selects."""
        quads = None if self.quads is None else self.quads[index]
        views = None if self.views is None else self.views[index]
        return Detections(self.boxes[index], self.scores[index], self.labels[index], quads, views)

    @property
    def corners(self) -> Array:
        """Outlines (n, 4, 2) in pixels: the quads, or the corners of the boxes."""
        return boxes_to_polygons(self.boxes) if self.quads is None else self.quads

    @staticmethod
    def empty() -> Detections:
        """No detections."""
        return Detections(np.zeros((0, 5)), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @staticmethod
    def concat(parts: list[Detections]) -> Detections:
        """All detections of ``parts``, in order."""
        parts = [Detections.empty(), *parts]
        free = any(part.quads is not None for part in parts)
        viewed = any(part.views is not None for part in parts)
        return Detections(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.corners for p in parts]) if free else None,
            np.concatenate([np.ones(len(p), np.float32) if p.views is None else p.views for p in parts])
            if viewed
            else None,
        )


def to_le90(boxes: Array) -> Array:
    """Rewrite (n, 5) boxes of any convention (see the module) as the same rectangles in ``le90``.

    Every convention says the same thing, that ``angle`` turns the side called w; only the range differs.
    """
    boxes = np.array(boxes, np.float64).reshape(-1, 5)
    tall = boxes[:, 2] < boxes[:, 3]
    boxes[tall, 2:4] = boxes[tall, 3:1:-1]
    angle = boxes[:, 4] + np.where(tall, _HALF_PI, 0.0)
    angle = (angle + _HALF_PI) % np.pi - _HALF_PI
    # rounding can put a tiny negative remainder on the open end of the range
    boxes[:, 4] = np.where(angle >= _HALF_PI, -_HALF_PI, angle)
    return boxes


def from_le90(boxes: Array, convention: str) -> Array:
    """Rewrite (n, 5) ``le90`` boxes in another ``convention`` (see the module); inverse of :func:`to_le90`.

    Raises:
        ValueError: for a convention that is not in ``CONVENTIONS``.
    """
    boxes = np.array(boxes, np.float64).reshape(-1, 5)
    angle = boxes[:, 4]
    if convention == "le90":
        return boxes
    if convention == "le135":
        angle = np.where(angle < -np.pi / 4, angle + np.pi, angle)
        boxes[:, 4] = np.where(angle >= 3 * np.pi / 4, -np.pi / 4, angle)  # where the sum was rounded up
        return boxes
    lowest = {"oc": 0.0, "opencv": -_HALF_PI, "yolo": 0.0}.get(convention)
    if lowest is None:
        raise ValueError(f"unknown angle convention {convention!r}: choose from {', '.join(CONVENTIONS)}")
    turns = np.floor((angle - lowest) / _HALF_PI)
    turned = angle - turns * _HALF_PI
    turns += turned >= lowest + _HALF_PI  # where the difference was rounded up
    if convention == "oc":  # its range is open below and closed above
        turns -= angle - turns * _HALF_PI <= lowest
    odd = turns % 2 != 0
    boxes[odd, 2:4] = boxes[odd, 3:1:-1]
    boxes[:, 4] = angle - turns * _HALF_PI
    return boxes


def boxes_to_polygons(boxes: Array) -> Array:
    """Corners (n, 4, 2) of (n, 5) boxes: x, y in pixels, clockwise on the screen, from the (-w, -h) corner."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 5)
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    half_w = np.stack([cos, sin], 1) * boxes[:, 2:3] / 2
    half_h = np.stack([-sin, cos], 1) * boxes[:, 3:4] / 2
    centre = boxes[:, :2]
    corners = [centre - half_w - half_h, centre + half_w - half_h, centre + half_w + half_h, centre - half_w + half_h]
    return np.stack(corners, 1)


def turned_rectangle(low: Array, high: Array, degrees: float) -> Array:
    """Corners (4, 2) of an upright rectangle that is turned clockwise on the screen about its centre.

    Args:
        low, high: its least and greatest x, y (2,).
        degrees: by how much to turn it.
    """
    corners: Array = boxes_to_polygons(np.array([[*(low + high) / 2, *high - low, np.radians(degrees)]]))[0]
    return corners


def polygons_to_boxes(polygons: Array) -> Array:
    """Smallest enclosing ``le90`` boxes (n, 5) of (n, k, 2) polygons of k >= 2 points.

    One side of the smallest rectangle lies along an edge of the convex hull. Where the points are few, every pair of
    them is tried, which covers those edges whatever the order of the points. Among equal areas, as around a
    triangle, the shortest box wins, then the one furthest to the left, then to the top.
    """
    points = np.asarray(polygons, np.float64)
    if points.shape[0] == 0:
        return np.zeros((0, 5))
    if points.shape[1] > _FEW:
        return np.concatenate([_around_hull(hull) for hull in shapely.convex_hull(shapely.multipoints(points))])
    return _smallest(points, *np.triu_indices(points.shape[1], 1))


def _around_hull(hull: shapely.Geometry) -> Array:
    """Smallest box (1, 5) around a convex ``hull``."""
    if shapely.get_num_coordinates(hull) > _MANY:  # as round as that, its rectangles hardly differ
        west, south, east, north = shapely.bounds(hull)
        hull = shapely.simplify(hull, 1e-6 * max(east - west, north - south))
    points = shapely.get_coordinates(hull)
    points = np.concatenate([points, points[:1]])  # one more, for a hull may be a single point
    first = np.arange(len(points) - 1)
    return _smallest(points[None], first, first + 1)


def _smallest(points: Array, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
    """Smallest boxes (n, 5) of points (n, k, 2) with a side along one of the lines from ``first`` to ``second``."""
    edges = points[:, second] - points[:, first]
    angle = np.arctan2(edges[..., 1], edges[..., 0])
    cos, sin = np.cos(angle), np.sin(angle)
    origin = points.mean(1, keepdims=True)
    x, y = np.moveaxis(points - origin, 2, 0)
    along = x[:, None] * cos[..., None] + y[:, None] * sin[..., None]
    across = y[:, None] * cos[..., None] - x[:, None] * sin[..., None]
    w, h = np.ptp(along, 2), np.ptp(across, 2)
    area = w * h
    mid_along, mid_across = (along.max(2) + along.min(2)) / 2, (across.max(2) + across.min(2)) / 2
    centre_x = origin[..., 0] + mid_along * cos - mid_across * sin
    centre_y = origin[..., 1] + mid_along * sin + mid_across * cos
    # a relative margin keeps the choice stable under rounding
    least = area <= area.min(1, keepdims=True) * (1 + 1e-9) + 1e-12
    long = np.maximum(w, h)
    for key in (long, centre_x - origin[..., 0], centre_y - origin[..., 1]):
        lowest = np.where(least, key, np.inf).min(1, keepdims=True)
        least &= key <= lowest + 1e-9 * long
    pick = np.arange(len(points)), np.argmax(least, axis=1)
    return to_le90(np.stack([column[pick] for column in (centre_x, centre_y, w, h, angle)], 1))
