"""What quantization costs on a real model: our bundles and llama.cpp's formats against one float32 reference."""
