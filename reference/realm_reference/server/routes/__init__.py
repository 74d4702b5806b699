"""The HTTP routes, one file each: a request in, an answer out."""
