"""The MCP server with our tools, over HTTP and over stdin and stdout."""
