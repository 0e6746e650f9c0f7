"""Splitting datasets: mmrotate's tiles, every layout, nothing lost, the same result however it is made."""

import json

import cv2
import numpy as np
import pytest
from splits import files, run

from legnet_cli.data.datasets import load_dataset
from legnet_cli.engine.split.draft import draft_place


@pytest.mark.parametrize("rates", [(1.0,), (0.5, 1.0, 1.5)])
def test_tiles_and_labels_are_mmrotates(tmp_path, dota, mmrotate_split, rates):
    options = ["--sizes", "64", "--gaps", "16", "--rates", *map(str, rates)]
    mmrotate_split(dota / "train" / "images", dota / "train" / "labelTxt", tmp_path / "theirs", *options)
    run(dota, tmp_path / "ours", scales=rates, like_mmrotate=True)
    theirs, ours = files(tmp_path / "theirs"), files(tmp_path / "ours" / "train")
    theirs = {name: data for name, data in theirs.items() if not name.endswith(".log")}
    assert ours.keys() == theirs.keys()
    for name, data in theirs.items():
        if name.endswith(".txt"):
            assert ours[name] == data, name
        else:
            pixels = [cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_UNCHANGED) for d in (ours[name], data)]
            np.testing.assert_array_equal(*pixels, err_msg=name)


def test_tree_of_splits_and_what_the_record_says(tmp_path, dota):
    result = run(dota, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "split.json").read_text(encoding="utf-8"))
    tiles = load_dataset(tmp_path / "out")
    assert tiles.classes == ("plane", "ship")
    assert tiles.splits() == ("train", "val", "test")
    for name, counts in result.splits.items():
        part = tiles.split(name)
        assert counts.tiles == len(part.images)
        assert counts.objects == sum(map(len, part.images)) == sum(counts.classes.values())
        assert counts.classes == part.counts()
        assert sum(counts.sizes.values()) == counts.objects
        assert counts.empty == sum(not len(image) for image in part.images)
        assert record["splits"][name] == vars(counts)
    assert result.splits["train"].source == 3
    assert record["settings"]["tile"] == 64
    assert not (tmp_path / "out" / "test" / "annfiles").exists()  # a test set without labels is not one without objects
    assert cv2.imread(str(result.contact_sheet)).shape[1] > 320
    assert not draft_place(tmp_path / "out").exists()


def test_the_same_files_however_many_workers(tmp_path, dota):
    run(dota, tmp_path / "one", workers=1, background=0.5)
    run(dota, tmp_path / "five", workers=5, background=0.5)
    assert files(tmp_path / "one") == files(tmp_path / "five")


def test_scenes_without_georeference_are_nothing_to_tell(tmp_path, dota, caplog):
    result = run(dota, tmp_path / "out")
    assert caplog.records == []
    assert not [problem for problem in result.problems if "georeference" in problem.message]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_background_thins_training_tiles_only(tmp_path, dota, share):
    for name in ("P1", "P3", "P5"):
        for path in dota.rglob(f"{name}.txt"):
            path.write_text("1 1 9 1 9 9 1 9 ship 0\n" if name != "P5" else "")
    whole, thin = run(dota, tmp_path / "whole"), run(dota, tmp_path / "thin", background=share)
    assert thin.splits["train"].empty == round(share * whole.splits["train"].empty)
    assert thin.splits["train"].objects == whole.splits["train"].objects
    assert thin.splits["val"] == whole.splits["val"]
    assert thin.splits["test"] == whole.splits["test"]
    again = run(dota, tmp_path / "again", background=share)
    assert again.splits == thin.splits
