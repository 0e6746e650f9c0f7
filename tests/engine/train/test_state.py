"""What a run keeps: the running average of its weights, and its checkpoint."""

from __future__ import annotations

import pytest
import torch

from legnet_cli.engine.train.state import WeightAverage, load_run, save_run
from legnet_cli.errors import CheckpointError


@pytest.mark.parametrize(
    ("decay", "steps", "weights"),
    [
        # after step n the decay is (1 + n) / (10 + n), up to its limit: 2/11, 3/12, 4/13
        (0.998, 1, [9 / 11]),
        (0.998, 3, [9 / 11 * 3 / 12 * 4 / 13, 9 / 12 * 4 / 13, 9 / 13]),
        (0.25, 3, [9 / 11 * 0.25 * 0.25, 0.75 * 0.25, 0.75]),
        (0.0, 3, [0, 0, 1]),
    ],
)
def test_the_average_follows_at_a_rising_decay(decay, steps, weights):
    start = {"weight": torch.zeros(steps), "count": torch.tensor(0)}
    average = WeightAverage(start, decay)
    for step in range(1, steps + 1):
        weight = torch.zeros(steps)
        weight[step - 1] = 1.0
        average.follow({"weight": weight, "count": torch.tensor(step)}, step)
    torch.testing.assert_close(average.state["weight"], torch.tensor(weights, dtype=torch.float32))
    assert int(average.state["count"]) == steps  # whole numbers are copied
    assert start["weight"].sum() == 0


def test_the_average_reaches_its_decay():
    average = WeightAverage({"weight": torch.zeros(1)}, 0.998)
    average.follow({"weight": torch.ones(1)}, 5000)
    torch.testing.assert_close(average.state["weight"], torch.tensor([0.002]), rtol=1e-4, atol=0)


def test_a_checkpoint_comes_back(tmp_path):
    content = {"step": 3, "model": {"a": torch.ones(2)}, "best": (0.5, 2), "history": [(1, None)]}
    save_run(tmp_path / "last.ckpt", content)
    found = load_run(tmp_path / "last.ckpt")
    assert torch.equal(found.pop("model")["a"], content.pop("model")["a"])
    assert found == content


@pytest.mark.parametrize("content", [b"PK\x03\x04 damaged", b"", b"cos\nsystem\n(S'true'\ntR."])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: is damaged .*: start again without --resume"):
        load_run(tmp_path / "last.ckpt")
