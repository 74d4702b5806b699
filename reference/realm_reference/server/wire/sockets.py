"""The sockets that a server listens on: bound by itself, or made by a supervisor and inherited."""

from __future__ import annotations

import os
import socket

BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: a busy port shows before the model is loaded. Raises
    OSError.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def inherit(descriptor: int) -> socket.socket:
    """The listening socket that a supervisor has passed on as this file descriptor.

    Several servers may hold it, each takes connections from its one queue, and the queue outlives each of
    them: a server that closes its copy takes no waiting connection with it. (Sockets of their own with
    SO_REUSEPORT would each have a queue, and what waits in it is reset when its owner closes it.)
    Raises ValueError, in one line, for anything else than a listening TCP socket.
    """
    try:
        inherited = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        raise ValueError(f"file descriptor {descriptor} is not an open socket") from None
    if inherited.family in (socket.AF_INET, socket.AF_INET6) and inherited.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        # Only the copy is kept, so that to close it ends this process's part in the queue; the number itself
        # (0 with some supervisors) must not go to the next file that is opened.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, descriptor, inheritable=descriptor <= 2)
        os.close(nothing)
        return inherited
    inherited.close()
    raise ValueError(f"file descriptor {descriptor} is a socket, but not one that listens for TCP")


def url_of(bound: socket.socket) -> str:
    """The URL at which the server is reached on `bound`."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
