"""Write weights as files that run without this package, verified against PyTorch."""

from legnet_cli.engine.export.run import ExportConfig, ExportResult, export

__all__ = ["ExportConfig", "ExportResult", "export"]
