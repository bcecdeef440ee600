"""Indexes that answer over HTTP and to assistants (MCP)."""
