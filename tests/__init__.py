"""The test suite; `tests.servers` holds the loopback services it talks to."""
