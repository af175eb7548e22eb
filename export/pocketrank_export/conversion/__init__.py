"""A ranker in PyTorch to TFLite and ONNX."""
