"""Rotated-box operators in plain PyTorch, for any device."""
