"""Search scenes for oriented objects and write them as layers in map coordinates."""

from legnet_cli.engine.predict.run import PredictConfig, PredictResult, SearchProgress, predict

__all__ = ["PredictConfig", "PredictResult", "SearchProgress", "predict"]
