"""What is on disk: the folder of an index, read, searched, written, verified and repaired."""
