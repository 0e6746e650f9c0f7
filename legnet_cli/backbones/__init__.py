"""LEGNet and UnravelNet in plain PyTorch."""
