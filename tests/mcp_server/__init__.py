"""Tests of backend/mcp_server."""
