"""Small training runs, and what is compared of them."""

from __future__ import annotations

import csv

NANO = "oriented-rcnn/legnet-nano"
# few proposals, and a learning rate that does not depend on the number of epochs
QUICK = (
    "schedule=step",
    "model.train_cfg.rcnn.sampler.num=32",
    "model.train_cfg.rpn_proposal.nms_pre=64",
    "model.train_cfg.rpn_proposal.max_per_img=64",
)


def rows(out):
    """Rows of the ``metrics.csv`` in a run's folder."""
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def curve(out):
    """What must not depend on how a run was interrupted or spread over processes."""
    return [(row["step"], row["epoch"], row["lr"], row["loss"], row["map50"]) for row in rows(out)]
