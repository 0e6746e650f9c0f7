import itertools
import math

import numpy as np
import pytest
import shapely
import torch

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.ops.iou import candidate_pairs, rotated_iou

SQUARE = (10.0, 10.0, 4.0, 4.0, 0.0)
MODES = ("iou", "iof", "ios")


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


def random(n, seed=0, extent=100.0, sides=(5.0, 60.0)):
    low, high = torch.tensor(sides).log()
    u = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))
    return torch.cat([u[:, :2] * extent, (low + u[:, 2:4] * (high - low)).exp(), (u[:, 4:] - 0.5) * 20], 1)


def by_shapely(a, b):
    one, two = (shapely.polygons(boxes_to_polygons(x.double().numpy())) for x in (a, b))
    # on a fine grid: in plain floating point GEOS now and then returns nothing for two boxes that all but coincide
    shared = shapely.area(shapely.intersection(one, two, grid_size=1e-8))
    area1, area2 = shapely.area(one), shapely.area(two)
    return {"iou": shared / (area1 + area2 - shared), "iof": shared / area1, "ios": shared / np.minimum(area1, area2)}


def kin(a, seed):
    """Partners of boxes that are hard for clipping: identical, turned by quarters, nested, touching, shifted."""
    u = torch.rand(len(a), generator=torch.Generator().manual_seed(seed))
    kinds = torch.arange(len(a)) % 8
    b = a.double().clone()
    cos, sin = b[:, 4].cos(), b[:, 4].sin()
    b[kinds == 1, 4] += math.pi
    b[kinds == 2, 4] -= math.pi / 2
    b[kinds == 2, 2:4] = b[kinds == 2, 2:4].flip(1)
    b[kinds == 3, 2:4] *= 0.1 + 0.9 * u[kinds == 3, None]
    touching, corner, shifted = kinds == 4, kinds == 5, kinds == 6
    b[touching, 0] += (a[:, 2] * cos)[touching]
    b[touching, 1] += (a[:, 2] * sin)[touching]
    b[corner, 0] += (a[:, 2] * cos - a[:, 3] * sin)[corner]
    b[corner, 1] += (a[:, 2] * sin + a[:, 3] * cos)[corner]
    b[shifted, 0] += (a[:, 2] * cos * u)[shifted]
    b[shifted, 1] += (a[:, 2] * sin * u)[shifted]
    b[kinds == 7, 4] += 1e-7
    return b


CASES = {
    "common": lambda n: (random(n, 0), random(n, 1)),
    "kin": lambda n: (random(n, 2).double(), kin(random(n, 2), 3)),
    "kin of float32": lambda n: (random(n, 2), kin(random(n, 2), 3).float()),
    "far out": lambda n: (
        random(n, 4) + torch.tensor([1e5, 1e5, 0, 0, 0]),
        random(n, 5) + torch.tensor([1e5, 1e5, 0, 0, 0]),
    ),
    "huge": lambda n: (random(n, 6, 1e5, (1e3, 1e5)), random(n, 7, 1e5, (1e3, 1e5))),
    "huge and small": lambda n: (random(n, 8, 1e5, (1e4, 1e5)), random(n, 9, 1e5, (1.0, 50.0))),
    "sub-pixel": lambda n: (random(n, 10, 1.0, (0.01, 1.0)), random(n, 11, 1.0, (0.01, 1.0))),
    "needles": lambda n: (random(n, 12, 100.0, (0.01, 1e3)), random(n, 13, 100.0, (0.01, 1e3))),
}


def check(case, n):
    a, b = CASES[case](n)
    expected = by_shapely(a, b)
    for mode in MODES:
        found = rotated_iou(a, b, aligned=True, mode=mode)
        assert found.dtype == a.dtype
        assert np.abs(found.double().numpy() - expected[mode]).max() < 1e-4
        assert found.min() >= 0
        assert found.max() <= 1
    # some pairs do overlap
    assert (expected["iof"] > 0).mean() > 0.05


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_shapely(case):
    check(case, 2500)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_shapely_on_a_million_pairs(case):
    check(case, 1_000_000 // len(CASES))


@pytest.mark.parametrize(
    ("other", "iou", "iof", "ios"),
    [
        (SQUARE, 1, 1, 1),
        ((10, 10, 4, 4, math.pi / 2), 1, 1, 1),
        ((10, 10, 2, 2, 0), 1 / 4, 1 / 4, 1),
        ((10, 10, 8, 8, 0), 1 / 4, 1, 1),
        ((12, 10, 4, 4, 0), 1 / 3, 1 / 2, 1 / 2),
        ((14, 10, 4, 4, 0), 0, 0, 0),
        ((14, 14, 4, 4, 0), 0, 0, 0),
        ((30, 10, 4, 4, 0.3), 0, 0, 0),
        ((10, 10, 4, 4, math.pi / 4), math.sqrt(0.5), None, None),
        ((10, 10, 0, 4, 0), 0, 0, 0),
        ((10, 10, -4, 4, 0), 0, 0, 0),
        ((math.nan, 10, 4, 4, 0), 0, 0, 0),
        ((10, 10, math.inf, 4, 0), 0, 0, 0),
        ((10, 10, 4, 4, math.nan), 0, 0, 0),
        ((10, 10, 1e300, 1e300, 0), 0, 0, 0),
    ],
)
@pytest.mark.parametrize("aligned", [False, True])
def test_pairs_known_by_hand(other, iou, iof, ios, aligned):
    for mode, expected in zip(MODES, (iou, iof, ios), strict=True):
        if expected is not None:
            found = rotated_iou(boxes(SQUARE), boxes(other), aligned=aligned, mode=mode)
            assert found.shape == ((1,) if aligned else (1, 1))
            assert found.item() == pytest.approx(expected, abs=1e-12)


def test_iof_is_over_the_first_boxes():
    small, large = boxes((0, 0, 2, 2, 0)), boxes((0, 0, 4, 4, 0))
    assert rotated_iou(small, large, mode="iof").item() == 1
    assert rotated_iou(large, small, mode="iof").item() == 0.25


def test_clockwise_tells_the_sense_of_angles():
    # on a screen, y down, a quarter of pi clockwise points to the lower right
    bar, spot = boxes((0, 0, 20, 1, math.pi / 4)), boxes((5, 5, 1, 1, 0))
    assert rotated_iou(bar, spot, mode="ios") > 0.9
    assert rotated_iou(bar, spot, mode="ios", clockwise=False) == 0
    bar[0, 4] *= -1
    assert rotated_iou(bar, spot, mode="ios", clockwise=False) > 0.9


@pytest.mark.parametrize(("extent", "sides"), [(100.0, (5.0, 60.0)), (2000.0, (3.0, 30.0)), (500.0, (1.0, 1000.0))])
@pytest.mark.parametrize("mode", MODES)
def test_matrix_holds_every_pair(extent, sides, mode):
    a, b = random(120, 1, extent, sides), random(90, 2, extent, sides)
    a[::17, 2] = math.nan
    matrix = rotated_iou(a, b, mode=mode)
    i, j = (x.flatten() for x in torch.meshgrid(torch.arange(120), torch.arange(90), indexing="ij"))
    assert torch.equal(matrix.flatten(), rotated_iou(a[i], b[j], aligned=True, mode=mode))
    assert 0 < (matrix > 0).float().mean() < 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_dtype(dtype):
    a, b = random(50, 1).to(dtype), random(50, 2).to(dtype)
    found = rotated_iou(a, b)
    assert found.dtype == dtype
    assert (found.double() - rotated_iou(a.double(), b.double())).abs().max() <= torch.finfo(dtype).eps


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_empty_sets(n, m):
    assert rotated_iou(random(n), random(m)).shape == (n, m)
    assert rotated_iou(random(0), random(0), aligned=True).shape == (0,)
    assert list(candidate_pairs(random(n), random(m))) == []


def test_refuses_what_cannot_be_paired():
    with pytest.raises(ValueError, match="not 2 and 3"):
        rotated_iou(random(2), random(3), aligned=True)
    with pytest.raises(ValueError, match="giou"):
        rotated_iou(random(2), random(2), mode="giou")


def touching(a, b):
    """Pairs whose axis-aligned bounds touch, one by one."""
    one, two = ([shapely.box(*p.min(0), *p.max(0)) for p in boxes_to_polygons(x.numpy())] for x in (a, b))
    return {(i, j) for (i, p), (j, q) in itertools.product(enumerate(one), enumerate(two)) if p.intersects(q)}


@pytest.mark.parametrize(("extent", "sides"), [(100.0, (5.0, 60.0)), (1000.0, (3.0, 30.0)), (500.0, (1.0, 1000.0))])
def test_candidates_are_each_touching_pair_once(extent, sides):
    a, b = random(150, 1, extent, sides), random(100, 2, extent, sides)
    pairs = [pair for i, j in candidate_pairs(a, b) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == touching(a, b)
    pairs = [tuple(sorted(pair)) for i, j in candidate_pairs(a) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == {(i, j) for i, j in touching(a, a) if i < j}


def test_candidates_come_in_bounded_chunks():
    sizes = [len(i) for i, _ in candidate_pairs(random(1000, 0, 10.0, (30.0, 60.0)))]
    assert sum(sizes) == 1000 * 999 / 2
    assert max(sizes) < 100_000


def test_one_giant_box_among_many_small():
    a = random(20_000, 0, 40_000.0, (5.0, 20.0))
    a[7] = torch.tensor([20_000, 20_000, 60_000, 60_000, 0.3])
    pairs = sum(len(i) for i, _ in candidate_pairs(a))
    assert 20_000 - 1 <= pairs < 22_000
