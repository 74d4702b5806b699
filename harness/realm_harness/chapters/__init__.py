"""The conformance chapters: pytest files that run against any server through the `target` fixture."""
