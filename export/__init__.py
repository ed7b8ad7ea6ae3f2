"""Turns a Reka-Edge-class checkpoint into a quantized ONNX bundle."""
