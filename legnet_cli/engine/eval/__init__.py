"""Measure detections against labels: average precision, operating points, worst cases, reports."""

from legnet_cli.engine.eval.run import EvalConfig, EvalResult, evaluate

__all__ = ["EvalConfig", "EvalResult", "evaluate"]
