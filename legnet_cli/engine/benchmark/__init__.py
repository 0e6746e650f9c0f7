"""Time detectors: tiles a second, latency, memory, each stage and layer."""

from legnet_cli.engine.benchmark.run import BenchmarkConfig, benchmark

__all__ = ["BenchmarkConfig", "benchmark"]
