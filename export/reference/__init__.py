"""The model in float32, layer by layer: what the graphs are compared with, and what calibration runs on."""
