"""Fuzzing of a real server and of bundles: inputs, mutators by format, targets, and the run."""
