"""The cases, a file a chapter."""
