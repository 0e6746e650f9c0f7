"""Cut labelled images into tiles."""

from legnet_cli.engine.split.run import SplitConfig, SplitResult, split

__all__ = ["SplitConfig", "SplitResult", "split"]
