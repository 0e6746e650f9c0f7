"""Run the command line: ``python -m legnet_cli`` and the ``legnet`` script."""

import os
import sys

# rasterio and pyogrio import these wherever they are installed, and nothing here uses them: half a second and 130 MB.
# Of a module's own body, for worker processes run it too.
for _unused in ("boto3", "geopandas", "pandas"):
    sys.modules.setdefault(_unused, None)  # type: ignore[arg-type]  # makes their import fail

from legnet_cli.main import app  # noqa: E402


def main() -> None:
    """Entry point of the ``legnet`` script."""
    # Huge pages for torch's large tensors on Linux: a quarter less time for a tile. Read when torch first allocates.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    app()


if __name__ == "__main__":
    main()
