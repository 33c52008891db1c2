"""The assistant: the Agents SDK loop over our own MCP server, and the models that can drive the loop."""
