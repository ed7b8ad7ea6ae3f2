"""What is said about them, as batches of ids and of labels."""
