"""From a trained model to a validated ONNX bundle."""
