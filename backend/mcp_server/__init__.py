"""The MCP server over the tools, and the ways to reach it."""
