"""Functions that a model may call: made of Python functions or of MCP servers, run within limits, and the loop."""
