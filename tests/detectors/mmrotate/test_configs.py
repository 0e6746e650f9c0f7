"""What is taken from a user's own mmrotate config, and what is refused since it would train something else."""

import pytest

from legnet_cli.detectors.mmrotate.configs import read_mmrotate_config
from legnet_cli.errors import ConfigError

EPOCHS = 'runner = dict(type="EpochBasedRunner", max_epochs=24)'
STEP = 'lr_config = dict(policy="step", warmup="linear", warmup_iters=500, warmup_ratio=0.25, step=[16, 22]{})'
COSINE = 'lr_config = dict(policy="CosineAnnealing", min_lr=0{})'


def read(tmp_path, *lines):
    path = tmp_path / "mine.py"
    head = ['model = dict(type="RotatedRetinaNet")', 'optimizer = dict(type="SGD", lr=0.01)']
    path.write_text("\n".join([*head, *lines]))
    return read_mmrotate_config(path, 3).schedule


@pytest.mark.parametrize(
    ("lines", "epochs", "schedule", "steps"),
    [
        ((EPOCHS, STEP.format("")), 24, "step", (16, 22)),
        ((EPOCHS, STEP.format(", by_epoch=True, gamma=0.1")), 24, "step", (16, 22)),
        ((EPOCHS, 'lr_config = dict(policy="step", step=8)'), 24, "step", (8, 16)),  # every 8 epochs
        ((EPOCHS, COSINE.format(", by_epoch=False")), 24, "cosine", ()),  # step by step within epochs, as here
        (("total_epochs = 36", COSINE.format("")), 36, "cosine", ()),
        ((), 12, "step", ()),
    ],
)
def test_schedule(tmp_path, lines, epochs, schedule, steps):
    found = read(tmp_path, *lines)
    assert (found["epochs"], found["schedule"], found["steps"]) == (epochs, schedule, steps)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('runner = dict(type="IterBasedRunner", max_iters=80000)', STEP.format(", by_epoch=False")), "in iterations"),
        (("runner = dict(max_iters=80000)",), "counts in iterations: give runner = "),
        (('runner = dict(type="IterBasedRunner")',), "counts in iterations"),
        (("total_iters = 80000",), "counts in iterations"),
        ((EPOCHS, STEP.format(", by_epoch=False")), "counts its steps in iterations"),
        ((EPOCHS, STEP.format(", warmup_by_epoch=True")), "warms up by epochs"),
        ((EPOCHS, STEP.format(", gamma=0.5")), "leave out gamma"),
        ((EPOCHS, COSINE.replace("0{}", "1e-5")), "leave out min_lr"),
        ((EPOCHS, 'lr_config = dict(policy="poly", power=0.9)'), "only step and CosineAnnealing"),
    ],
)
def test_schedules_that_are_refused(tmp_path, lines, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, *lines)
    assert str(caught.value).startswith(str(tmp_path / "mine.py"))
    assert "\n" not in str(caught.value)
