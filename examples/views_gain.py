"""What more views, scales and weights gain and cost: AP50 of each class, and seconds a tile, as a Markdown table.

    uv run examples/views_gain.py DATA --split test --gsd 5 --second other.safetensors

Each view of a tile is searched once for all rows. Seconds are the sum of a row's views; fusion takes milliseconds.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from legnet_cli.boxes import Detections
from legnet_cli.detectors.ensemble import VIEW_SCORE, join
from legnet_cli.detectors.loader import Detector, load_detector
from legnet_cli.detectors.views import Views
from legnet_cli.engine.eval.classes import select_classes
from legnet_cli.engine.eval.measure import compute_metrics
from legnet_cli.engine.eval.search import SearchPlan, plan_grids, search_images
from legnet_cli.engine.eval.truth import Source, load_truth

SCALES = (0.8, 1.0, 1.25)
ROWS = {
    "one view": Views(),
    "flips": Views("flips"),
    "flips, NMS": Views("flips", fuse="nms"),
    "full": Views("full"),
    "full, NMS": Views("full", fuse="nms"),
    "scales 0.8, 1, 1.25": Views(scales=SCALES),
    "two models": Views(),
    "two models, NMS": Views(fuse="nms"),
    "two models, flips": Views("flips"),
}


class Remembering:
    """A detector's search that looks at no picture twice; ``seconds`` counts as if it did."""

    def __init__(self, search: Callable[[Tensor], list[Detections]]) -> None:
        self.seconds = 0.0
        self._search, self._known = search, dict[bytes, tuple[float, list[Detections]]]()

    def __call__(self, images: Tensor) -> list[Detections]:
        """What is found in uint8 images (B, H, W, 3)."""
        key = hashlib.sha256(f"{images.shape}".encode() + images.cpu().numpy().tobytes()).digest()
        if key not in self._known:
            start = time.perf_counter()
            found = self._search(images)
            self._known[key] = time.perf_counter() - start, found
        seconds, found = self._known[key]
        self.seconds += seconds
        return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--gsd", type=float)
    parser.add_argument("--weights", default="legnet-nano")
    parser.add_argument("--second", help="other weights")
    asked = parser.parse_args()
    truth = load_truth(Source(asked.data, asked.split))
    names = [asked.weights, *([asked.second] if asked.second else [])]
    searches, members = [], []
    for name in names:
        one = load_detector(name, score_threshold=VIEW_SCORE, device="cpu")
        searches.append(Remembering(one.search))
        members.append(replace(one, search=searches[-1]))
    card = members[0].card
    plan = SearchPlan(card.tile, card.overlap, asked.gsd, None, "auto", 1, 1, 0)
    grids = plan_grids(truth, plan)
    classes = [name for name in truth.classes if name in card.classes]
    print("| views |", " | ".join(classes), "| mAP50 | s a tile |\n|---|" + "---|" * (len(classes) + 2))
    for row, views in ROWS.items():
        if "two" in row and len(members) == 1:
            continue
        used = members if "two" in row else members[:1]
        detector = used[0] if len(used) == 1 and views.single else join(used, views)
        print(measure(row, detector, truth, grids, plan, classes, searches), flush=True)


def measure(row, detector: Detector, truth, grids, plan: SearchPlan, classes, searches: list[Remembering]) -> str:
    """A line of the table."""
    tiles = 0

    def count(more: int) -> None:
        nonlocal tiles
        tiles += more

    for one in searches:
        one.seconds = 0.0
    found = search_images(truth, grids, detector, plan, None, count)
    truths, predictions = select_classes(truth, found, classes)
    precisions = compute_metrics(predictions, truths, classes).to_dict()
    seconds = sum(one.seconds for one in searches) / tiles
    values = [precisions["ap"]["voc07"]["0.50"][name] for name in classes]
    mean = precisions["map"]["voc07"]["0.50"]
    return f"| {row} | " + " | ".join(f"{value:.3f}" for value in [*values, mean]) + f" | {seconds:.2f} |"


if __name__ == "__main__":
    main()
