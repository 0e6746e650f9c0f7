import numpy as np
import pytest
import torch

from legnet_cli.boxes import Detections
from legnet_cli.detectors.loader import Detector, build_detector
from legnet_cli.detectors.networks import random_checkpoint
from legnet_cli.detectors.weights.recipes import get_recipe
from legnet_cli.engine.benchmark.runs import FEWEST, Run, time_searches
from legnet_cli.engine.benchmark.timings import OTHER
from legnet_cli.engine.sample_tiles import synthetic_tile


def run(latencies=(10.0, 20.0, 30.0), batch=1, stages=None):
    return Run("fp32", batch, latencies, stages or {}, 5.0, 100.0, None)


def test_figures_of_a_run():
    one = run((10.0, 20.0, 30.0), batch=2, stages={"backbone": 4.0, "nms": 2.0})
    assert one.percentile(50) == 20
    assert one.fps == 100
    assert one.fps_network == 125
    assert run().fps_network is None


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        ("roi-transformer/legnet-nano", ["backbone", "neck", "rpn", "roi", "nms", OTHER]),
        ("rotated-fcos/legnet-nano", ["backbone", "neck", OTHER]),
    ],
)
def test_detectors_of_mmrotate_have_coarser_stages(mmrotate, recipe, stages):
    detector = build_detector(random_checkpoint(get_recipe(recipe)), torch.device("cpu"))
    found = time_searches(detector, [synthetic_tile(64, 64)], 1, repeat=1, seconds=1)
    assert list(found.stages) == stages
    assert (found.fps_network is not None) == ("nms" in stages)


def test_batches_cover_the_tiles_and_latencies_are_of_batches(detector):
    seen = []

    def search(images):
        seen.append(int(images[0, 0, 0, 0]))
        return [Detections(np.zeros((3, 5)), np.zeros(3, np.float32), np.zeros(3, np.int64)) for _ in images]

    tiles = [np.full((8, 8, 3), value, np.uint8) for value in range(3)]
    bare = Detector(detector.card, torch.device("cpu"), "fp32", search)
    found = time_searches(bare, tiles, 2, repeat=None, seconds=1e-9)
    assert len(found.latencies) == FEWEST
    assert seen[-6:] == [0, 1, 2, 0, 0, 1]  # by twos, from the first again where they end
    assert found.boxes == 3
    assert found.stages == {}


def test_stages_are_of_a_tile(detector):
    found = time_searches(detector, [synthetic_tile(64, 64)], 4, repeat=1, seconds=1)
    assert sum(found.stages.values()) == pytest.approx(found.latencies[0] / 4)
