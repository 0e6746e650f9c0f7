"""The order of training images, and batches of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legnet_cli.engine.train.data import GlobalBatchSampler, collate


@pytest.mark.parametrize(("images", "batch", "accumulate", "processes"), [(10, 2, 1, 1), (10, 1, 1, 3), (3, 4, 1, 1)])
def test_processes_share_each_epoch(images, batch, accumulate, processes):
    parts = []
    for rank in range(processes):
        sampler = GlobalBatchSampler(images, batch, accumulate, rank, processes, seed=3)
        sampler.end = 2 * sampler.steps
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    for epoch in range(2):
        seen = [index for part in parts for group in part for number, index in group if number == epoch]
        assert len(seen) == max(1, images // (batch * processes)) * batch * processes
        assert len(set(seen)) == min(images, len(seen))
    sampler.start = sampler.steps
    assert list(sampler) == parts[-1][sampler.steps :]


@pytest.mark.parametrize(("accumulate", "processes"), [(1, 2), (2, 2), (1, 3), (3, 2)])
def test_processes_take_the_passes_of_one_that_accumulates_in_turn(accumulate, processes):
    def passes(accumulate, rank, processes):
        sampler = GlobalBatchSampler(26, 2, accumulate, rank, processes, seed=1)
        sampler.end = 2 * sampler.steps
        return list(sampler)

    alone = passes(accumulate * processes, 0, 1)
    for rank in range(processes):
        assert passes(accumulate, rank, processes) == alone[rank::processes]


def test_epochs_and_seeds_are_shuffled_apart():
    def order(seed):
        sampler = GlobalBatchSampler(50, 1, 1, 0, 1, seed)
        sampler.end = 100
        found = [index for ((_, index),) in sampler]
        return found[:50], found[50:]

    orders = [*order(0), *order(1)]
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert len({tuple(one) for one in orders}) == 4


def test_smaller_images_are_padded_with_the_mean_colour():
    samples = [
        (torch.full((3, 4, 6), 9, dtype=torch.uint8), torch.ones(2, 5), torch.tensor([0, 1]), "a"),
        (torch.full((3, 5, 2), 7, dtype=torch.uint8), torch.ones(0, 5), torch.tensor([], dtype=torch.int64), "b"),
    ]
    batch = collate(samples)
    assert batch.images.shape == (2, 3, 5, 6)
    assert batch.images.dtype == torch.uint8
    np.testing.assert_array_equal(batch.images[0, :, :4], 9)
    np.testing.assert_array_equal(batch.images[0, :, 4, 0], [124, 116, 104])
    np.testing.assert_array_equal(batch.images[1, :, :, :2], 7)
    np.testing.assert_array_equal(batch.images[1, :, 4, 5], [124, 116, 104])
    assert ([len(boxes) for boxes in batch.boxes], batch.names) == ([2, 0], ["a", "b"])
