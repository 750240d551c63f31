"""Serving: ONNX Runtime and NumPy, no JAX."""
