"""What quantization cost: the bundle against the float32 reference."""
