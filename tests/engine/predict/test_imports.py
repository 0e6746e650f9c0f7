"""``legnet predict`` imports nothing that it does not use."""

import json
import subprocess
import sys

import numpy as np

from legnet_cli.geo.handles import CACHE_BYTES

REPORT = """
import atexit, json, sys
from legnet_cli.__main__ import main

def report():
    from rasterio.env import get_gdal_config
    print(json.dumps([get_gdal_config("GDAL_CACHEMAX"), [name for name, module in sys.modules.items() if module]]))

atexit.register(report)
sys.argv[0] = "legnet"
main()
"""
# where they are installed, other packages would load them; each costs up to half a second and 100 MB
UNUSED = {"pandas", "geopandas", "boto3", "pyarrow", "pyogrio", "cv2", "PIL", "matplotlib", "scipy", "onnxruntime"}
UNUSED |= {"sympy", "torchvision", "torch._dynamo", "torch._inductor", "torch.onnx", "mmcv", "mmdet"}


def test_predict_loads_no_package_that_it_does_not_use_and_bounds_the_cache_of_gdal(tmp_path, write_scene):
    scene = write_scene("a.tif", np.random.default_rng(0).integers(1, 255, (3, 64, 64), np.uint8))
    words = ["predict", scene, "--out", str(tmp_path / "o.geojson"), "--device", "cpu"]
    told = subprocess.run([sys.executable, "-c", REPORT, *map(str, words)], check=True, capture_output=True, text=True)
    cache, modules = json.loads(told.stdout.splitlines()[-1])
    assert "torch" in modules
    assert not UNUSED & set(modules)
    assert cache == CACHE_BYTES
