"""Measurements: speed, overlap, relevance, and the plans that are tuned from them."""
