"""What people do with the indexes that they have: look, remove, warm, have this machine examined."""
