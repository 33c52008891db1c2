"""The MCP server that is built from the features' tools, and the ways to reach it."""
