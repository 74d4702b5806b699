"""Realm's WebSocket protocol: JSON text frames, many calls at a time, on the same engine as HTTP."""

from realm_reference.server.websocket.handler import PATH, add_websocket, leave_idle

__all__ = ["PATH", "add_websocket", "leave_idle"]
