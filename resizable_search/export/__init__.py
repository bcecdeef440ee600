"""Indexes in the formats of other programs."""
