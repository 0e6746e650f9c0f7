"""Train a detector of a recipe on labelled tiles."""

from legnet_cli.engine.train.run import TrainConfig, TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "train"]
