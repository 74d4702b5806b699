"""Between the socket and the handlers: connections, heads, bodies, strict JSON in, server-sent events out."""
