"""The MCP server that offers the tools, and the ways to reach it."""
