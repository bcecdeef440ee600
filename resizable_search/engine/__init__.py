"""Arrays in, the top k out: this package knows no files."""
