"""The whole command line in a process where mmcv, mmdet and mmrotate cannot be imported."""

import json
import os
import subprocess
import sys

import cv2
import pytest
import torch
from make_scene import CLASSES, draw_scene
from safetensors.torch import save_file

from legnet_cli.boxes import boxes_to_polygons

# runs the arguments on stdin, prints code, output and exception of each
PROGRAM = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mmcv", "mmdet", "mmrotate"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from typer.testing import CliRunner
from legnet_cli.installation import install_line
from legnet_cli.main import app

done = {"install line": install_line("mmrotate")}
for name, arguments in json.load(sys.stdin).items():
    result = CliRunner().invoke(app, arguments)
    done[name] = result.exit_code, result.output, repr(result.exception)
print(json.dumps(done))
"""
COMMANDS = {
    "predict": "predict scene.tif -o boxes.geojson --preview boxes.png",
    "predict, kept export": "predict scene.tif -o kept.csv --engine onnxruntime",
    "eval": "eval --weights legnet-nano --data dota --out report",
    "export": "export legnet-nano -o nano.onnx --images scene.tif",
    "benchmark": "benchmark --recipe oriented-rcnn/legnet-nano --tile 64 --repeat 1",
    "models": "models",
}
MORE = {
    "export int8": "export legnet-nano -o int8.onnx --precision int8 --images scene.tif --data dota",
    "export .xml": "export legnet-nano -o nano.xml --precision fp16 --images scene.tif",
    "export .pt2": "export legnet-nano -o nano.pt2 --images scene.tif",
    "benchmark .pt2": "benchmark -w nano.pt2 --tile 64 --repeat 1",
}
REFUSED = {
    "train": "train --recipe oriented-rcnn/legnet-nano --data dota --out run",
    "train --config": "train --config mine.py --data dota --out run",
    "benchmark": "benchmark --recipe s2anet/legnet-nano --tile 64",
    "benchmark --baseline": "benchmark --baseline --tile 64 --repeat 1",
    "predict": "predict scene.tif -w r3det.safetensors -o none.csv",
    "export": "export r3det.safetensors -o none.onnx",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lean")
    image, truth = draw_scene(320, 0.5, seed=11)
    for name in ("images", "labelTxt"):
        (path / "dota" / name).mkdir(parents=True)
    for name in ("scene.tif", "dota/images/a.png"):
        cv2.imwrite(str(path / name), image[..., ::-1])
    lines = [
        " ".join(f"{value:.1f}" for value in quad.ravel()) + f" {CLASSES[label]} 0\n"
        for quad, label in zip(boxes_to_polygons(truth.boxes), truth.labels, strict=True)
    ]
    (path / "dota" / "labelTxt" / "a.txt").write_text("".join(lines))
    (path / "mine.py").write_text("model = dict(type='RetinaNet')\n")
    tensors = {"backbone.Stem.LoG.conv_init.weight": torch.ones(4, 3, 7, 7), "neck.x": torch.ones(1)}
    save_file(tensors | {"refine_head.0.retina_cls.weight": torch.ones(5, 8, 3, 3)}, path / "r3det.safetensors")
    return path


def run(folder, commands):
    """Code, output and exception of each of several commands."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps({name: line.split() for name, line in commands.items()}),
        cwd=folder,
        env=os.environ | {"LEGNET_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def done(folder):
    return run(folder, COMMANDS | {f"refused {name}": line for name, line in REFUSED.items()})


@pytest.mark.parametrize("name", COMMANDS)
def test_works(done, name):
    code, output, error = done[name]
    assert code == 0, output + error


def test_finds_as_much_on_a_kept_export(done, folder):
    found = json.loads((folder / "boxes.geojson").read_text())["features"]
    rows = (folder / "kept.csv").read_text().splitlines()
    assert len(found) > 5
    assert abs(len(rows) - 1 - len(found)) <= 1
    assert len(list((folder / "cache" / "engines").iterdir())) == 1


@pytest.mark.slow
def test_other_formats_work(folder):
    results = run(folder, MORE)
    for name in MORE:
        code, output, error = results[name]
        assert code == 0, output + error


@pytest.mark.parametrize("name", REFUSED)
def test_says_what_is_missing_and_how_to_install_it(done, folder, name):
    code, output, error = done[f"refused {name}"]
    assert code == 4, output + error
    line = f"error: mmcv cannot be loaded (No module named 'mmcv'): run `{done['install line']}`"
    assert output.splitlines()[-1] == line
    assert "Traceback" not in output
    assert not list(folder.glob("none*")) + list(folder.glob("run"))
