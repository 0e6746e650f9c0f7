import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from blobs import CLASSES
from eval_set import OBJECTS, as_csv, as_task1, config, perfect, write_dota

from legnet_cli.boxes import Detections
from legnet_cli.data.tables import ImageDetections, write_csv, write_task1
from legnet_cli.engine.eval import evaluate
from legnet_cli.engine.eval.compare import CompareConfig, compare_runs
from legnet_cli.engine.eval.truth import Source, load_truth
from legnet_cli.errors import ConfigError, DataError


def map50(result):
    return result.metrics["summary"]["voc07"]["mAP50"]


def test_difficult(tmp_path):
    data = write_dota(tmp_path / "dota", difficult=[("P1", 0), ("P2", 1)])
    rows = perfect()
    rows = [ImageDetections(row.image, row.detections[1:]) for row in rows]  # the first of each image is missed
    write_task1(tmp_path / "found", rows, CLASSES)
    plain, counted = (
        evaluate(config(data, tmp_path / f"run{mode}", predictions=tmp_path / "found", count_difficult=mode)).metrics
        for mode in (False, True)
    )
    assert plain["counts"]["truths"] == {"bright": 2, "dim": 1}
    assert plain["counts"]["ignored"] == {"bright": 0, "dim": 2}
    assert plain["ap"]["area"]["0.50"] == {"bright": 0.5, "dim": 1}
    assert counted["counts"]["truths"] == {"bright": 2, "dim": 3}
    assert counted["ap"]["area"]["0.50"] == {"bright": 0.5, "dim": pytest.approx(2 / 3)}
    assert (plain["rules"], counted["rules"]) == ("dota", "mmrotate")


@pytest.mark.parametrize(
    ("options", "counts", "expected"),
    [
        # bright objects are neither wanted nor background: the two predictions of dim ones on them do not count
        ({"classes": ("dim",), "ignore_others": True}, ({"dim": 3}, {"dim": 2}), {"dim": 1}),
        ({"classes": ("dim",)}, ({"dim": 3}, {"dim": 0}), {"dim": 0.6}),
        ({"rename": ("bright=dim",)}, ({"dim": 5}, {"dim": 0}), {"dim": 1}),
        ({"rename": ("bright=ignored",), "count_difficult": True}, ({"dim": 3}, {"dim": 2}), {"dim": 1}),
        ({"rename": ("bright=DIM", "dim=DIM")}, ({"DIM": 5}, {"DIM": 0}), {"DIM": 1}),
    ],
)
def test_chosen_classes(dota, tmp_path, options, counts, expected):
    scores = {"P1": [0.5, 0.9, 0.4], "P2": [0.8, 0.3]}  # the bright objects come first
    rows = [
        ImageDetections(
            row.image,
            Detections(row.detections.boxes, np.array(scores[row.image], np.float32), 0 * row.detections.labels),
        )
        for row in perfect()
    ]
    write_csv(tmp_path / "found.csv", rows, ["dim"])
    metrics = evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "found.csv", **options)).metrics
    assert (metrics["counts"]["truths"], metrics["counts"]["ignored"]) == counts
    assert metrics["ap"]["area"]["0.50"] == pytest.approx(expected)


def test_regions_of_known_sets_are_ignored(dota, tmp_path):
    for file in (dota / "labelTxt").iterdir():
        file.write_text(file.read_text().replace("bright", "DontCare"))
    metrics = evaluate(config(dota, tmp_path / "run", predictions=as_csv(tmp_path), rename=("bright=dim",))).metrics
    assert metrics["counts"]["truths"] == {"dim": 3}
    assert metrics["ap"]["area"]["0.50"] == {"dim": 1}


def test_a_class_without_objects(dota, tmp_path, caplog):
    rows = perfect()
    extra = Detections(np.array([[20, 20, 10, 10, 0.0]]), np.array([0.9], np.float32), np.array([2]))
    rows[0] = ImageDetections("P1", Detections.concat([rows[0].detections, extra]))
    write_csv(tmp_path / "found.csv", rows, [*CLASSES, "ship"])
    with pytest.raises(DataError, match=r"found\.csv: predictions of unknown class 'ship': known are bright, dim"):
        evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "found.csv"))
    classes = ("dim", "bright", "ship")
    result = evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "found.csv", classes=classes))
    assert result.metrics["classes_without_truth"] == ["ship"]
    assert map50(result) == 1
    assert "no object of ship: not in any mean" in caplog.text


def test_dota_classes_without_objects_are_known(tmp_path):
    objects = {"P1": ([(60, 60, 40, 20, 0.3)], (160,))}
    data = write_dota(tmp_path / "dota", objects)
    text = data / "labelTxt/P1.txt"
    text.write_text(text.read_text().replace("dim", "plane"))
    write_task1(tmp_path / "found", perfect(objects=objects), ["plane", "ship"])
    result = evaluate(config(data, tmp_path / "run", predictions=tmp_path / "found"))
    assert result.metrics["classes"] == ["plane", "ship"]
    assert map50(result) == 1


def test_no_predictions(dota, tmp_path):
    write_csv(tmp_path / "found.csv", [], CLASSES)
    result = evaluate(config(dota, tmp_path / "run", predictions=tmp_path / "found.csv"))
    assert map50(result) == 0
    assert result.metrics["operating_point"]["overall"] is None
    assert result.metrics["confusion"]["matrix"] == [[0, 0, 2], [0, 0, 3], [0, 0, 0]]
    assert (tmp_path / "run/report.html").exists()


def test_gsd_of_the_labels(tmp_path):
    data = write_dota(tmp_path / "dota", {"P1": OBJECTS["P1"]})
    text = data / "labelTxt/P1.txt"
    text.write_text("imagesource:GoogleEarth\ngsd:0.25\n" + text.read_text())
    truth = load_truth(Source(data))
    assert truth.truths.metres == pytest.approx([10, 7.5, 15], abs=1e-3)


def test_weights(dota, tmp_path, detector):
    result = evaluate(config(dota, tmp_path / "run", weights="w", submission=tmp_path / "sub.zip"))
    assert result.metrics["map"]["area"]["0.70"] == 1
    with zipfile.ZipFile(tmp_path / "sub.zip") as archive:
        assert sorted(archive.namelist()) == ["Task1_bright.txt", "Task1_dim.txt"]
    again = evaluate(config(dota, tmp_path / "again", predictions=tmp_path / "sub.zip"))
    assert again.metrics["map"]["area"]["0.70"] == 1


def test_names_that_a_submission_cannot_hold(tmp_path, detector):
    data = write_dota(tmp_path / "dota", {"an image": OBJECTS["P1"]})
    with pytest.raises(ConfigError, match="'an image' has a space"):
        evaluate(config(data, tmp_path / "run", weights="w", submission=tmp_path / "sub.zip"))
    assert detector.batches == []
    result = evaluate(config(data, tmp_path / "run", weights="w"))
    assert result.metrics["map"]["area"]["0.70"] == 1


def test_label_without_image(dota, tmp_path, detector):
    (dota / "images/P2.png").unlink()
    with pytest.raises(DataError, match=r"P2\.txt: its image is missing"):
        evaluate(config(dota, tmp_path / "run", weights="w"))
    result = evaluate(config(dota, tmp_path / "run", predictions=as_task1(tmp_path)))
    assert map50(result) == 1  # predictions need no image


def test_any_worker_count_and_batch(dota, tmp_path, detector):
    runs = []
    for workers, batch in ((1, 1), (4, 3)):
        run = tmp_path / f"run{workers}"
        evaluate(config(dota, run, weights="w", tile=300, workers=workers, batch=batch, submission=run / "s.zip"))
        runs.append([file.read_bytes() for file in sorted(run.iterdir())])
    assert runs[0] == runs[1]
    assert max(detector.batches) == 2  # both images fit one tile, so they share a batch


def test_robustness(tmp_path, detector):
    data = write_dota(tmp_path / "dota", {"P1": OBJECTS["P1"]})
    steps = []
    result = evaluate(config(data, tmp_path / "run", weights="w", robustness=True, tile=300), steps.append)
    saved = json.loads((tmp_path / "run/metrics.json").read_text())["robustness"]
    assert len(saved["kinds"]) == 9
    assert saved["kinds"]["jpeg"]["relative_drop"] == 0
    assert saved["kinds"]["low-light"]["voc07"]["mAP50"][-1] == 0  # too dark for a detector by brightness
    assert 0 < saved["mean_relative_drop"] < 1
    assert saved["mean_relative_drop"] == result.robustness.drop
    assert steps[-1].tiles_done == steps[-1].tiles_total == 46
    assert (tmp_path / "run/robustness.png").exists()


def test_a_model_without_a_class_of_the_labels(dota, tmp_path, detector):
    text = dota / "labelTxt/P1.txt"
    text.write_text(text.read_text().replace("bright", "brihgt"))
    with pytest.raises(DataError, match=r"labels of unknown class 'brihgt': did you mean 'bright'\?.*--classes"):
        evaluate(config(dota, tmp_path / "run", weights="w"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either --weights or --predictions"),
        ({"weights": "w", "predictions": Path("p")}, "give either --weights or --predictions"),
        ({"predictions": Path("p"), "robustness": True}, "--robustness searches corrupted images: give --weights"),
        ({"weights": "w", "score": 2}, "--score 2 is out of range"),
        ({"weights": "w", "workers": 0}, "--workers 0 is out of range"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        config(Path("d"), Path("o"), **options)


def test_unlabelled_data(tmp_path):
    data = write_dota(tmp_path / "dota", {"P1": ([], ())})
    write_csv(tmp_path / "f.csv", [], CLASSES)
    with pytest.raises(DataError, match="has no object to evaluate"):
        evaluate(config(data, tmp_path / "run", predictions=tmp_path / "f.csv"))


def test_existing_report(dota, tmp_path):
    found = as_csv(tmp_path)
    evaluate(config(dota, tmp_path / "run", predictions=found))
    (tmp_path / "run/robustness.png").touch()  # of an earlier report
    with pytest.raises(ConfigError, match=r"exists already.*--overwrite"):
        evaluate(config(dota, tmp_path / "run", predictions=found))
    evaluate(config(dota, tmp_path / "run", predictions=found, overwrite=True))
    assert not (tmp_path / "run/robustness.png").exists()


def test_splits(tmp_path):
    for split in ("train", "val"):
        write_dota(tmp_path / "dota" / split, {split: OBJECTS["P1"]})
    assert load_truth(Source(tmp_path / "dota")).names == ("val",)
    assert load_truth(Source(tmp_path / "dota", split="train")).names == ("train",)


def test_compare(dota, tmp_path):
    write_csv(tmp_path / "none.csv", [], CLASSES)
    evaluate(config(dota, tmp_path / "good", predictions=as_csv(tmp_path)))
    evaluate(config(dota, tmp_path / "bad", predictions=tmp_path / "none.csv"))
    result = compare_runs(CompareConfig((tmp_path / "good", tmp_path / "bad"), tmp_path / "both"))
    assert [run["mAP50"] for run in result.summary.values()] == [1, 0]
    assert result.classes == {"good": {"bright": 1, "dim": 1}, "bad": {"bright": 0, "dim": 0}}
    saved = json.loads((tmp_path / "both/compare.json").read_text())
    assert saved == result.to_dict()
    assert "good" in (tmp_path / "both/report.html").read_text()


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_compare_what_is_no_report(tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.json: cannot be read as metrics"):
        compare_runs(CompareConfig((tmp_path / "run", tmp_path / "run"), tmp_path / "both"))
