"""Oriented object detection in remote-sensing scenes. Importing this package loads nothing heavy."""

__version__ = "0.1.0"
