"""Time the metrics of a data set as large as DOTA's validation set, against mmrotate's with two processes.

    uv run examples/eval_speed.py                 # a minute or two
    uv run examples/eval_speed.py --share 0.1     # a tenth of the boxes

458 images, 28,000 objects and 300,000 boxes of 15 classes, drawn at random with the crowding of DOTA: some images and
classes have most of the objects. mmrotate works out one average precision, at the overlap 0.5; ours is timed with
all that ``legnet eval`` reports: both metrics at ten overlaps, three sizes, best thresholds, curves and the
confusion matrix. The two must agree on what mmrotate reports. mmrotate runs on
the operators that are installed: mmcv's compiled ones where there are any, else this package's.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import time
from collections.abc import Callable

import numpy as np

from legnet_cli.boxes import boxes_to_polygons, to_le90
from legnet_cli.detectors.mmrotate.door import import_mm
from legnet_cli.engine.eval.matching import Predictions, Truths
from legnet_cli.engine.eval.measure import EvalMetrics, compute_metrics

import_mm()  # here, so that mmrotate's processes get the operators too
eval_map = importlib.import_module("mmrotate.core.evaluation.eval_map")
kernel = importlib.import_module("mmcv.ops").box_iou_rotated
eval_map.box_iou_rotated = lambda boxes, others: kernel(boxes[:, :5], others)  # the sixth column is the score

IMAGES, OBJECTS, BOXES, CLASSES = 458, 28_000, 300_000, 15
SIDE = 4000  # pixels of an image


def make_data(share: float, seed: int = 0) -> tuple[np.ndarray, Truths, Predictions]:
    """Boxes (n, 5) of the objects, the same as ground truth, and predictions half of which are near an object."""
    rng = np.random.default_rng(seed)
    n, k = int(OBJECTS * share), int(BOXES * share)
    labels = rng.choice(CLASSES, n, p=rng.dirichlet(np.full(CLASSES, 0.7)))
    images = rng.choice(IMAGES, n, p=rng.dirichlet(np.full(IMAGES, 0.5)))
    length = np.exp(rng.normal(3.4, 0.7, n))  # 30 pixels, give or take a factor of two
    angle = rng.uniform(-np.pi / 2, np.pi / 2, n)
    true = np.column_stack([rng.uniform(0, SIDE, (n, 2)), length, length * rng.uniform(0.2, 1, n), angle])
    source = rng.integers(0, n, k)
    found = true[source]
    found[:, :2] += rng.normal(0, 0.08, (k, 2)) * found[:, 2:3]
    found[:, 2:4] *= np.exp(rng.normal(0, 0.12, (k, 2)))
    found[:, 4] += rng.normal(0, 0.06, k)
    astray = rng.random(k) < 0.5
    found[astray, :2] = rng.uniform(0, SIDE, (np.count_nonzero(astray), 2))
    scores = np.where(astray, rng.beta(1, 5, k), rng.beta(4, 2, k)).astype(np.float32)
    guess = np.where(rng.random(k) < 0.95, labels[source], rng.integers(0, CLASSES, k))
    unknown = np.full(n, np.nan), np.full(k, np.nan)
    truths = Truths(boxes_to_polygons(true), labels, images, np.zeros(n, bool), unknown[0])
    return true, truths, Predictions(to_le90(found), scores, guess, images[source], unknown[1])


def as_mmrotate(true: np.ndarray, truths: Truths, found: Predictions) -> tuple[list, list]:
    """Results and annotations as ``eval_rbbox_map`` takes them."""
    table = np.column_stack([found.boxes, found.scores]).astype(np.float32)
    place = found.images * CLASSES + found.labels
    order = np.argsort(place, kind="stable")
    cells = np.split(table[order], np.searchsorted(place[order], np.arange(1, IMAGES * CLASSES)))
    results = [cells[image * CLASSES : (image + 1) * CLASSES] for image in range(IMAGES)]
    mine = [truths.images == image for image in range(IMAGES)]
    none = {"bboxes_ignore": np.zeros((0, 5), np.float32), "labels_ignore": np.zeros(0, np.int64)}
    return results, [{"bboxes": true[rows].astype(np.float32), "labels": truths.labels[rows], **none} for rows in mine]


def theirs(results: list, annotations: list) -> float:
    """VOC07 mAP50 by mmrotate."""
    return float(eval_map.eval_rbbox_map(results, annotations, use_07_metric=True, nproc=2, logger="silent")[0])


def least(repeats: int, work: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs; the clock counts what child processes take as well."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the boxes and objects")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    true, truths, found = make_data(options.share)
    names = [f"class{label}" for label in range(CLASSES)]

    def ours() -> EvalMetrics:
        return compute_metrics(found, truths, names, inclusive=True)

    fast = least(options.repeats, ours)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    data = as_mmrotate(true, truths, found)
    slow = least(options.repeats, lambda: theirs(*data))
    mean, reference = float(ours().precisions.mean[0, 0]), theirs(*data)
    print(f"ours {fast:.2f} s, all metrics, peak {memory} MB; mmrotate {slow:.2f} s, one metric, two processes")
    print(f"ratio {slow / fast:.1f}; mAP50 {mean:.4f} and {reference:.4f}, difference {abs(mean - reference):.1e}")
    if abs(mean - reference) > 1e-3:
        raise SystemExit("the two do not agree")


if __name__ == "__main__":
    main()
