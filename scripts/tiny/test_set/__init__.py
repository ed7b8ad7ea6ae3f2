"""Test images that other code draws, and how answers are read."""
