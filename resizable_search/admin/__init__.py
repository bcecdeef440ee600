"""What people do with the indexes they have: list, inspect, warm, and check this machine."""
