"""The version of the runtime: a bundle names the oldest that can read it."""

RUNTIME_VERSION = "0.2.0"
