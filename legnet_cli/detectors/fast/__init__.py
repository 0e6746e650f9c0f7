"""Oriented R-CNN for inference in plain PyTorch, folded and merged."""
