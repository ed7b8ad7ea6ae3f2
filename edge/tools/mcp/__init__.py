"""MCP servers as tools, by the official SDK: untrusted programs that must not take anything else down."""
