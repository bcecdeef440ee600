"""Indexes that answer from a process that stays: over HTTP, to assistants (MCP), and to `rsearch query`."""
