"""Tests of the places texts come from."""
