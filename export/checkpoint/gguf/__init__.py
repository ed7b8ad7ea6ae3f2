"""A GGUF file read as a checkpoint: header, names, configuration, tokenizer and tensors."""
