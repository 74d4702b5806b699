"""A request and its answer on the socket: connections, HTTP/1.1, SSE, WebSocket, the grammar of a stream."""
