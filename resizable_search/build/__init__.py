"""Everything that makes or changes an index: build, extend, sync, add, delete, compact, remove."""
