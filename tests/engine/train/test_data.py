"""The order of training images, and batches of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legnet_cli.data.classes import ClassChoice
from legnet_cli.data.png import encode_png
from legnet_cli.detectors.mmrotate.augment import Augment, stock_transforms
from legnet_cli.engine.train.batches import GlobalBatchSampler, Sample, Samples, collate
from legnet_cli.engine.train.data import load_train_data


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


@pytest.mark.parametrize(
    ("own", "also", "share", "batch"), [(10, 4, 0.5, 2), (6, 30, 0.75, 4), (9, 5, 0.25, 4), (3, 2, 0.5, 4)]
)
def test_other_data_have_their_share_of_each_batch(own, also, share, batch):
    def batches(start, end, rank=0, processes=1):
        sampler = GlobalBatchSampler(own + also, batch, 1, rank, processes, seed=3, also=also, share=share)
        sampler.start, sampler.end = start, end
        return sampler.steps, list(sampler)

    steps, found = batches(0, 1)
    assert steps == max(1, round(own / (1 - share)) // batch)
    _, found = batches(0, 8 * steps)
    for group in found:
        assert sum(index >= own for _, index in group) == round(share * batch)
    other = [index for group in found for _, index in group if index >= own]
    assert {*other} == {*range(own, own + also)}
    for epoch in range(8):  # its own images are gone through once an epoch
        seen = [index for group in found for number, index in group if number == epoch and index < own]
        assert len({*seen}) == min(own, len(seen))
    assert batches(3 * steps, 8 * steps)[1] == found[3 * steps :]  # goes on as if it had not been interrupted
    if steps > 1:
        assert batches(0, 2, 0, 2)[1][0] + batches(0, 2, 1, 2)[1][0] == found[0] + found[1]


def test_epochs_and_seeds_are_shuffled_apart():
    def order(seed):
        sampler = GlobalBatchSampler(50, 1, 1, 0, 1, seed)
        sampler.end = 100
        found = [index for ((_, index),) in sampler]
        return found[:50], found[50:]

    orders = [*order(0), *order(1)]
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert len({tuple(one) for one in orders}) == 4


def test_nothing_is_learnt_from_ignored_regions(tmp_path):
    for folder in ("images", "labelTxt"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images/a.png").write_bytes(encode_png(np.full((60, 60, 3), 9, np.uint8)))
    lines = ("0 0 60 0 60 60 0 60 plane 0", "10 10 50 10 50 50 10 50 DontCare 0", "40 40 48 40 48 48 40 48 ship 0")
    (tmp_path / "labelTxt/a.txt").write_text("\n".join(lines))

    def sample(choice):
        data = load_train_data(tmp_path, None, choice)
        samples = Samples(data, lambda pixels, boxes, labels, seed: (pixels, boxes, labels), 0, "auto", fill=True)
        return data, *(tensor.numpy() for tensor in samples[0, 0][:3])

    data, pixels, boxes, labels = sample(ClassChoice(("ship",)))
    assert (data.classes, data.check.objects, labels.tolist()) == (("ship",), {"ship": 1}, [0])
    np.testing.assert_allclose(boxes[0, :4], [44, 44, 8, 8])
    blank = np.zeros((60, 60), bool)
    blank[10:50, 10:50] = True
    blank[40:48, 40:48] = False  # an object is seen wherever it lies
    changed = (pixels != 9).any(0)
    assert (changed == blank).mean() > 0.97  # to a pixel along the edges
    assert np.unique(pixels[:, blank & changed], axis=1).T.tolist() == [[124, 116, 104]]
    _, pixels, _, _ = sample(ClassChoice(("ship",), ignore_others=True))
    assert (pixels != 9).all(0).mean() > 0.96
    data, pixels, _, labels = sample(ClassChoice(rename=("DontCare=ship",)))
    assert (data.check.objects, labels.tolist()) == ({"ship": 2, "plane": 1}, [1, 0, 0])
    assert (pixels == 9).all()


def test_masks_of_ignored_regions_are_turned_with_their_image(tmp_path, mmrotate):
    for folder in ("images", "labelTxt"):
        (tmp_path / folder).mkdir()
    pixels = np.full((64, 64, 3), 9, np.uint8)
    pixels[8:40, 8:24] = 200  # the region's ground is as bright as no other
    (tmp_path / "images/a.png").write_bytes(encode_png(pixels))
    lines = ("8 8 24 8 24 40 8 40 ignored 0", "30 30 42 30 42 48 30 48 ship 0")
    (tmp_path / "labelTxt/a.txt").write_text("\n".join(lines))
    data = load_train_data(tmp_path, None, ClassChoice())
    augment = Augment(stock_transforms("le90", data.classes), "le90")
    assert augment.moves_masks
    samples = Samples(data, augment, 0, "auto")
    found = [samples[epoch, 0] for epoch in range(8)]
    assert len({sample.image.numpy().tobytes() for sample in found}) > 4
    for sample in found:
        assert ((sample.image[0] > 104) == sample.ignored).float().mean() > 0.98  # but for the edges
    plain = Sample(torch.zeros(3, 80, 64, dtype=torch.uint8), torch.zeros(0, 5), torch.zeros(0), "b")
    batch = collate([found[0], plain])
    assert torch.equal(batch.ignored[0, :64], found[0].ignored)
    assert not batch.ignored[0, 64:].any()
    assert not batch.ignored[1].any()
    assert collate([plain]).ignored is None


def test_smaller_images_are_padded_with_the_mean_colour():
    samples = [
        Sample(torch.full((3, 4, 6), 9, dtype=torch.uint8), torch.ones(2, 5), torch.tensor([0, 1]), "a"),
        Sample(torch.full((3, 5, 2), 7, dtype=torch.uint8), torch.ones(0, 5), torch.tensor([], dtype=torch.int64), "b"),
    ]
    batch = collate(samples)
    assert batch.images.shape == (2, 3, 5, 6)
    assert batch.images.dtype == torch.uint8
    np.testing.assert_array_equal(batch.images[0, :, :4], 9)
    np.testing.assert_array_equal(batch.images[0, :, 4, 0], [124, 116, 104])
    np.testing.assert_array_equal(batch.images[1, :, :, :2], 7)
    np.testing.assert_array_equal(batch.images[1, :, 4, 5], [124, 116, 104])
    assert ([len(boxes) for boxes in batch.boxes], batch.names) == ([2, 0], ["a", "b"])
