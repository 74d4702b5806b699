"""The guest/host contract: data, the guard over guest memory, the sandbox that runs guests."""
