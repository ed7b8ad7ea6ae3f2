"""What comes in: safetensors, config.json and tokenizer of every supported family."""
