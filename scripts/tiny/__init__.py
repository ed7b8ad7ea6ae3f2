"""The embedded model: its images, its lessons, its training, and the test set that judges it."""
