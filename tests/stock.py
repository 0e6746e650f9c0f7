"""The configs that come with mmrotate."""

from importlib.util import find_spec
from pathlib import Path

from legnet_cli.detectors.mmrotate.door import import_mm


def stock_config(name):
    """One of them, by file name without suffix."""
    import_mm()
    from mmcv import Config

    folder = Path(find_spec("mmrotate").origin).parent / ".mim" / "configs"
    return Config.fromfile(str(next(folder.glob(f"*/{name}.py"))))
