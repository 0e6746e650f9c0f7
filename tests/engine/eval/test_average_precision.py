"""Rules of DOTA's development kit on hand-made cases, and equality with mmrotate on random ones."""

import itertools

import numpy as np
import pytest
import shapely
import torch

from legnet_cli.boxes import boxes_to_polygons, polygons_to_boxes, to_le90
from legnet_cli.engine.eval.average_precision import THRESHOLDS, MatchedPredictions, compute_ap
from legnet_cli.engine.eval.matching import Matches, Predictions, Truths, confusion, match
from legnet_cli.engine.eval.measure import compute_metrics, match_predictions, mean_precision
from legnet_cli.engine.eval.report import tie_note
from legnet_cli.ops.iou import Rectangles, rotated_iou
from legnet_cli.ops.quads import box_quad_iou, quad_areas

# a row: centre x, y of a 10 x 10 square; predictions add a score
A, B, C = (5, 5), (35, 5), (65, 5)
FAR = (500, 500)


def truths(points, difficult=(), labels=None, images=None, quads=None):
    n = len(points)
    boxes = np.array([(x, y, 10, 10, 0) for x, y in points], float).reshape(-1, 5)
    return Truths(
        boxes_to_polygons(boxes) if quads is None else np.array(quads, float),
        np.array(labels if labels is not None else [0] * n, np.int64),
        np.array(images if images is not None else [0] * n, np.int64),
        np.isin(np.arange(n), difficult),
        np.full(n, np.nan),
    )


def predictions(rows, labels=None, images=None, sides=(10, 10)):
    n = len(rows)
    return Predictions(
        np.array([(x, y, *sides, 0) for x, y, _ in rows], float).reshape(-1, 5),
        np.array([score for *_, score in rows], np.float32),
        np.array(labels if labels is not None else [0] * n, np.int64),
        np.array(images if images is not None else [0] * n, np.int64),
        np.full(n, np.nan),
    )


def ap50(found, true, classes=1, **options):
    return compute_metrics(found, true, [f"class{i}" for i in range(classes)], **options).precisions.ap[:, 0]


@pytest.mark.parametrize(
    ("found", "true", "voc07", "area"),
    [
        pytest.param([(*A, 0.9), (*B, 0.8)], truths([A, B]), 1, 1, id="all found"),
        pytest.param([], truths([A]), 0, 0, id="nothing predicted"),
        pytest.param([(*A, 0.9)], truths([A, B]), 6 / 11, 0.5, id="half found: recalls 0 to 0.5"),
        pytest.param([(*FAR, 0.9), (*A, 0.8)], truths([A]), 0.5, 0.5, id="a false alarm first"),
        pytest.param([(*A, 0.9), (*FAR, 0.8)], truths([A]), 1, 1, id="a false alarm last costs nothing"),
        pytest.param([(*A, 0.9), (*A, 0.8), (*B, 0.7)], truths([A, B]), (6 + 5 * 2 / 3) / 11, 5 / 6, id="a duplicate"),
        pytest.param([(*B, 0.9), (*A, 0.8)], truths([A, B], [1]), 1, 1, id="difficult found: neither right nor wrong"),
        pytest.param([(*B, 0.9), (*B, 0.85), (*A, 0.8)], truths([A, B], [1]), 1, 1, id="difficult found twice"),
        pytest.param([(*A, 0.8)], truths([A, B], [1]), 1, 1, id="difficult missed"),
        # 9 x 10 of 10 x 10 shared with the object, 1 x 10 with its neighbour, which is taken all the same
        pytest.param([(6, 5, 0.9), (5, 5, 0.8)], truths([A, (16, 5)]), 6 / 11, 0.5, id="best object taken: no second"),
        pytest.param([(*A, 0.5), (*FAR, 0.5)], truths([A]), 1, 1, id="tie: left before right"),
        pytest.param([(*FAR, 0.5), (*A, 0.5)], truths([A]), 1, 1, id="tie: whatever the order in the file"),
        pytest.param([(-500, 5, 0.5), (*A, 0.5)], truths([A]), 0.5, 0.5, id="tie: a false alarm on the left"),
        pytest.param(
            [(x, 5, 0.9) for x in range(0, 60, 20)],
            truths([(x, 5) for x in range(0, 200, 20)]),
            3 / 11,
            0.3,
            id="three of ten do not reach the recall 0.30000000000000004",
        ),
    ],
)
def test_ap_by_the_devkit(found, true, voc07, area):
    assert ap50(predictions(found), true)[:, 0] == pytest.approx([voc07, area])


@pytest.mark.parametrize("seed", range(6))
def test_bounds_of_ties_are_those_of_all_orders(seed):
    """True and false positives, duplicates and hits of ignored objects, seven of them with three scores."""
    rng = np.random.default_rng(seed)
    spots = [A, B, C, (95, 5), FAR]
    rows = [(*spots[i], score) for i, score in zip(rng.integers(0, 5, 7), rng.choice([0.3, 0.6, 0.9], 7), strict=True)]
    true = truths([A, B, C, (95, 5)], difficult=[3])
    measured = compute_metrics(predictions(rows), true, ["ship"])
    found = []
    ranked = measured.matched
    for order in itertools.permutations(range(7)):
        taken = np.array(order)
        if (np.diff(ranked.predictions.scores[taken]) <= 0).all():
            matches = Matches(ranked.truth[taken], np.where(ranked.hit[0, taken], 1.0, 0.0))
            judged = MatchedPredictions.of(ranked.predictions.take(taken), matches, true)
            found.append(compute_ap(*judged.verdicts(0, true.ignored), 3))
    np.testing.assert_allclose(measured.tied[:, :, 0, 0], [np.min(found, 0), np.max(found, 0)])
    low, high = measured.tied
    assert (low <= measured.precisions.ap).all()
    assert (measured.precisions.ap <= high).all()


@pytest.mark.parametrize(
    ("scores", "ties"),
    [((0.9, 0.9), {"ship": {"metric": "voc07", "iou": 0.5, "lowest": 0.5, "highest": 1.0}}), ((0.9, 0.8), {})],
)
def test_ties_that_change_an_average_precision_are_told(scores, ties):
    found = predictions([(*A, scores[0]), (*FAR, scores[1])])
    measured = compute_metrics(found, truths([A]), ["ship", "plane"])
    assert measured.to_dict()["ties"] == ties
    note = tie_note(measured.to_dict())
    assert ("ship (AP50 0.500 to 1.000, voc07)" in note) == bool(ties)


@pytest.mark.parametrize(("inclusive", "expected"), [(False, 0.0), (True, 1.0)])
def test_overlap_that_equals_the_threshold(inclusive, expected):
    found = predictions([(5, 5, 0.9)], sides=(10, 5))  # half of the object: an overlap of exactly 0.5
    assert ap50(found, truths([A]), inclusive=inclusive)[1, 0] == expected


def test_class_without_objects_is_in_no_mean():
    found = predictions([(*A, 0.9), (*B, 0.9)], labels=[0, 1])
    measured = compute_metrics(found, truths([A]), ["plane", "ship"])
    assert measured.without_truth == ("ship",)
    assert np.isnan(measured.precisions.ap[:, :, 1]).all()
    assert measured.precisions.mean[:, 0].tolist() == [1, 1]
    assert measured.to_dict()["ap"]["voc07"]["0.50"] == {"plane": 1.0, "ship": None}


def test_class_with_difficult_objects_only_is_in_no_mean():
    true = truths([A, B], difficult=[1], labels=[0, 1])
    measured = compute_metrics(predictions([(*A, 0.9), (*FAR, 0.9)], labels=[0, 1]), true, ["plane", "ship"])
    assert measured.without_truth == ("ship",)
    assert measured.precisions.mean[0, 0] == 1


@pytest.mark.parametrize("key", ["labels", "images"])
def test_another_class_or_image_does_not_match(key):
    found, true = predictions([(*A, 0.9)], **{key: [1]}), truths([A, FAR], **{key: [0, 1]})
    assert match(found, true, 2).truth.tolist() == [-1]


def test_of_equal_objects_the_first_is_matched():
    assert match(predictions([(*A, 0.9)]), truths([A, A]), 1).truth.tolist() == [0]


def test_equal_scores_rank_by_image_then_from_left_to_right():
    found = predictions([(35, 5, 0.5), (5, 9, 0.5), (1, 1, 0.5), (90, 90, 0.6)], images=[0, 0, 1, 1])
    assert found.ranked().boxes[:, 0].tolist() == [90, 5, 35, 1]


def test_keys_have_two_decimals():
    found = compute_metrics(predictions([(*A, 0.9)]), truths([A]), ["plane"]).to_dict()
    keys = ["0.50", "0.55", "0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]
    assert list(found["map"]["voc07"]) == list(found["ap"]["area"]) == keys
    assert found["summary"]["area"] == {"mAP50": 1.0, "mAP75": 1.0, "mAP50:95": 1.0}


def test_mean_over_thresholds():
    found = predictions([(6, 5, 0.9)])  # overlap 9/11 = 0.82
    mean = compute_metrics(found, truths([A]), ["plane"]).precisions.mean
    assert mean[0].tolist() == [float(t < 9 / 11) for t in THRESHOLDS]


def test_sizes():
    quads = boxes_to_polygons(np.array([[20, 20, 10, 10, 0], [200, 200, 50, 50, 0], [600, 600, 200, 100, 0.0]]))
    true = truths([A, A, A], quads=quads)
    boxes = np.array([[20, 20, 10, 10, 0], [900, 900, 10, 10, 0], [600, 600, 200, 100, 0.0]])
    found = Predictions(boxes, np.array([0.5, 0.9, 0.4], np.float32), *np.zeros((2, 3), np.int64), np.full(3, 5.0))
    measured = compute_metrics(found, true, ["plane"])
    assert {name: part.mean[1, 0] for name, part in measured.pixels.items()} == {"small": 0.5, "medium": 0, "large": 1}
    assert [part.counts.sum() for part in measured.pixels.values()] == [1, 1, 1]
    assert measured.metres == {}


@pytest.mark.parametrize(("side", "name"), [(31.9, "small"), (32, "medium"), (95.9, "medium"), (96, "large")])
def test_limits_of_sizes(side, name):
    true = truths([A], quads=boxes_to_polygons(np.array([[50, 50, side, side, 0.0]])))
    parts = compute_metrics(predictions([]), true, ["plane"]).pixels
    assert [key for key, part in parts.items() if part.counts.sum()] == [name]


def test_lengths_of_ignored_objects_alone_make_no_sizes():
    true = truths([A, B], difficult=[0])
    true.metres[0] = 5
    assert compute_metrics(predictions([(*B, 0.9)]), true, ["plane"]).metres == {}


def test_sizes_in_metres():
    true = truths([A, B, C])
    true.metres[:] = 5, 20, np.nan
    found = predictions([(*A, 0.9), (*B, 0.8), (*C, 0.7)])
    parts = compute_metrics(found, true, ["plane"]).metres
    assert [int(part.counts.sum()) for part in parts.values()] == [1, 1, 0]
    assert [part.mean[1, 0] for part in parts.values()][:2] == [1, 1]


def test_best_threshold():
    found = predictions([(*A, 0.9), (*B, 0.6), (*FAR, 0.6), (*C, 0.2), (900, 5, 0.1)])
    measured = compute_metrics(found, truths([A, B, C]), ["plane"])
    point = measured.overall
    # 0.9: P 1 R 1/3; 0.6: P 2/3 R 2/3 (equal scores go together); 0.2: P 3/4 R 1; 0.1: P 3/5 R 1
    assert (point.score, point.precision, point.recall) == pytest.approx((0.2, 0.75, 1))
    assert measured.points[0] == point
    assert measured.curves[0].precision == pytest.approx([1, 2 / 3, 3 / 4, 3 / 5])


def test_of_equal_best_thresholds_the_highest():
    rows = [(*A, 0.9), (*FAR, 0.5), (600, 5, 0.45), (*B, 0.4)]
    # 0.9: P 1 R 1/2; 0.4: P 1/2 R 1
    assert compute_metrics(predictions(rows), truths([A, B]), ["plane"]).overall.score == pytest.approx(0.9)


def test_nothing_found_has_no_threshold():
    measured = compute_metrics(predictions([(*FAR, 0.9)]), truths([A]), ["plane"])
    assert measured.overall is None
    assert measured.threshold == 0


def test_confusion():
    true = truths([A, B, C, (95, 5)], difficult=[3], labels=[0, 0, 1, 1])
    found = predictions([(*A, 0.9), (*B, 0.9), (*FAR, 0.9), (95, 5, 0.9), (*C, 0.1)], labels=[0, 1, 1, 0, 1])
    # B is called class 1, C is only found below the threshold, the difficult object is not counted
    assert confusion(found, true, 0.5, 2).tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_confusion_prefers_an_object_that_counts():
    assert confusion(predictions([(*A, 0.9)]), truths([A, A], difficult=[0]), 0.5, 1).tolist() == [[1, 0], [0, 0]]


def test_confusion_needs_more_than_half():
    half = predictions([(5, 5, 0.9)], sides=(10, 5))  # an IoU of exactly 0.5
    assert confusion(half, truths([A]), 0.5, 1).tolist() == [[0, 1], [1, 0]]


def random_case(seed, images=12, objects=160, boxes=900, classes=3):
    rng = np.random.default_rng(seed)
    sides = rng.uniform(8, 40, (objects, 2))
    true = to_le90(np.column_stack([rng.uniform(0, 250, (objects, 2)), sides, rng.uniform(-1.5, 1.5, objects)]))
    source = rng.integers(0, objects, boxes)
    noise = np.column_stack([rng.normal(0, 2, (boxes, 4)), rng.normal(0, 0.08, boxes)])
    found = to_le90(np.abs(true[source] + noise) * [1, 1, 1, 1, 0] + (true[source] + noise) * [0, 0, 0, 0, 1])
    labels, place = rng.integers(0, classes, objects), rng.integers(0, images, objects)
    guess = np.where(rng.random(boxes) < 0.9, labels[source], rng.integers(0, classes, boxes))
    return (
        true,
        Truths(boxes_to_polygons(true), labels, place, rng.random(objects) < 0.2, np.full(objects, np.nan)),
        Predictions(found, rng.random(boxes, np.float32), guess, place[source], np.full(boxes, np.nan)),
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("metric", "use_07"), [(0, True), (1, False)])
def test_equals_mmrotate(seed, metric, use_07, monkeypatch, mmrotate):
    from legnet_cli.detectors.mmrotate.door import import_mm

    import_mm()
    from mmrotate.core.evaluation import eval_map

    class Pool:  # in this process: starting others takes seconds
        def starmap(self, function, rows):
            return [function(*row) for row in rows]

        def close(self):
            pass

    # mmrotate hands over the score as a sixth column, which mmcv's kernels pass by
    monkeypatch.setattr(eval_map, "box_iou_rotated", lambda one, two: rotated_iou(one[:, :5], two))
    monkeypatch.setattr(eval_map, "get_context", lambda _: type("Context", (), {"Pool": lambda self, _: Pool()})())
    boxes, true, found = random_case(seed)
    images, classes = range(12), range(3)
    annotations, results = [], []
    for image in images:
        mine = true.images == image
        keep, ignored = mine & ~true.ignored, mine & true.ignored
        annotations.append(
            {
                "bboxes": boxes[keep],
                "labels": true.labels[keep],
                "bboxes_ignore": boxes[ignored],
                "labels_ignore": true.labels[ignored],
            }
        )
        rows = [(found.images == image) & (found.labels == label) for label in classes]
        results.append([np.column_stack([found.boxes[row], found.scores[row]]) for row in rows])
    measured = compute_metrics(found, true, ["a", "b", "c"], inclusive=True).precisions
    for row, threshold in enumerate(THRESHOLDS[::5]):
        mean, each = eval_map.eval_rbbox_map(
            results, annotations, iou_thr=threshold, use_07_metric=use_07, logger="silent"
        )
        assert measured.mean[metric, 5 * row] == pytest.approx(mean, abs=1e-3)
        assert measured.ap[metric, 5 * row] == pytest.approx([part["ap"] for part in each], abs=1e-3)


def devkit(found, true, threshold, label):
    """(voc07, area) of one class by the steps of dota_evaluation_task1.py, with shapely's polygons."""
    rows = np.flatnonzero(found.labels == label)
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    taken, verdicts = set(), []
    for row in rows:
        near = np.flatnonzero((true.images == found.images[row]) & (true.labels == label))
        box = shapely.Polygon(boxes_to_polygons(found.boxes[row : row + 1])[0])
        areas = [box.intersection(shapely.Polygon(true.quads[i])).area for i in near]
        iou = [a / (box.area + shapely.Polygon(true.quads[i]).area - a) for a, i in zip(areas, near, strict=True)]
        best = int(np.argmax(iou)) if iou else -1
        if best < 0 or iou[best] <= threshold:
            verdicts.append((0, 1))
        elif true.ignored[near[best]]:
            verdicts.append((0, 0))
        else:
            verdicts.append((0, 1) if near[best] in taken else (1, 0))
            taken.add(near[best])
    right, wrong = np.cumsum(np.array(verdicts).reshape(-1, 2), axis=0).T
    recall = right / ((true.labels == label) & ~true.ignored).sum()
    precision = right / np.maximum(right + wrong, np.finfo(np.float64).eps)
    levels = [precision[recall >= t].max(initial=0) for t in np.arange(0.0, 1.1, 0.1)]
    envelope = np.maximum.accumulate(np.append(precision, 0)[::-1])[::-1]
    return sum(levels) / 11, float((np.diff(np.append(0, recall)) * envelope[:-1]).sum())


@pytest.mark.parametrize("seed", [3, 4])
def test_equals_the_devkit_on_free_outlines(seed):
    _, true, found = random_case(seed, objects=60, boxes=300)
    true.quads[:] += np.random.default_rng(seed).normal(0, 0.8, true.quads.shape)
    ap = compute_metrics(found, true, ["a", "b", "c"]).precisions.ap
    for row in (0, 4):
        for label in range(3):
            assert ap[:, row, label] == pytest.approx(devkit(found, true, THRESHOLDS[row], label), abs=1e-9)


def test_order_of_predictions_and_objects_does_not_matter():
    _, true, found = random_case(5)
    found = Predictions(found.boxes, found.scores.round(1), found.labels, found.images, found.metres)  # many ties
    rng = np.random.default_rng(0)
    mixed = found.take(rng.permutation(len(found)))
    index = rng.permutation(len(true))
    shuffled = Truths(*(getattr(true, name)[index] for name in ("quads", "labels", "images", "ignored", "metres")))
    first = mean_precision(found, true, 3)
    assert (first == mean_precision(mixed, shuffled, 3)).all()
    assert 0.3 < first[0, 0] < 1


def test_not_finite_and_empty_boxes_are_false_alarms():
    found = predictions([(*A, 0.9), (np.nan, 5, 0.95), (*B, 0.2)])
    found.boxes[2, 2:4] = 0
    matched = match_predictions(found, truths([A, B]), 1)
    assert matched.truth.tolist() == [-1, 0, -1]


def test_average_precision_of_nothing():
    assert compute_ap(np.zeros(0, bool), np.zeros(0, bool), 3) == (0, 0)


@pytest.mark.parametrize("turn", [1, -1])
def test_overlap_with_free_outlines_is_exact(turn):
    rng = np.random.default_rng(1)
    boxes = np.column_stack([rng.uniform(0, 40, (300, 2)), rng.uniform(4, 30, (300, 2)), rng.uniform(-2, 2, 300)])
    quads = boxes_to_polygons(boxes[::-1]) + rng.normal(0, 2, (300, 4, 2))
    sound = shapely.is_valid(shapely.polygons(quads))
    boxes, quads = boxes[sound] + [1e5, 1e5, 0, 0, 0], quads[sound][:, ::turn] + 1e5
    one, two = shapely.polygons(boxes_to_polygons(boxes)), shapely.polygons(quads)
    shared = shapely.area(shapely.intersection(one, two))
    expected = shared / (shapely.area(one) + shapely.area(two) - shared)
    corners = torch.from_numpy(np.ascontiguousarray(quads))
    iou = box_quad_iou(Rectangles.of(torch.from_numpy(boxes)), corners, quad_areas(corners))
    assert np.abs(iou.numpy() - expected).max() < 1e-7  # shapely sums products of 1e5 x 1e5
    assert (expected > 0.1).sum() > 30
    assert (polygons_to_boxes(quads)[:, 2] > 0).all()
