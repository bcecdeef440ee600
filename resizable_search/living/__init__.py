"""Indexes that change while they serve: documents go, come, follow their corpus; parts become one again."""
