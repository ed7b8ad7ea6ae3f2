"""Images of coloured shapes to learn from."""
