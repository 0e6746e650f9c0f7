"""Detectors as files: ONNX, OpenVINO IR and torch.export programs."""
