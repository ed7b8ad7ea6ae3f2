"""The model in PyTorch and the run that trains it."""
