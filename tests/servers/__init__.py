"""Loopback servers that answer like the services rsearch talks to, and data to serve from them."""
