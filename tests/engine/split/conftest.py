import subprocess
import sys
from pathlib import Path

import pytest
from splits import IMAGES, write_image, write_labels


@pytest.fixture
def dota(tmp_path):
    """Two splits with labels and one without."""
    root = tmp_path / "DOTA"
    for seed, (name, size) in enumerate(IMAGES.items()):
        part = "train" if seed < 3 else "val"
        write_image(root / part / "images" / name, size, seed, channels=1 if name == "P2.png" else 3)
        write_labels(root / part / "labelTxt" / f"{Path(name).stem}.txt", size, 0 if name == "P4.bmp" else 12, seed)
    write_image(root / "test" / "images" / "T1.png", (100, 64), 9)
    return root


@pytest.fixture
def mmrotate_split(mmrotate):
    """mmrotate's splitter: a function of two folders, the output and more options."""

    def split(images, labels, out, *options):
        script = mmrotate / ".mim/tools/data/dota/split/img_split.py"
        places = ["--img-dirs", images, "--ann-dirs", labels, "--save-dir", out, "--padding-value", "104", "116", "124"]
        subprocess.run([sys.executable, script, "--nproc", "1", *places, *options], check=True, capture_output=True)

    return split
