"""The MockServer's side of Realm's WebSocket protocol, down to its own frames: a defect may be anywhere."""

from realm_mocks.server.websocket.session import PATH, Session

__all__ = ["PATH", "Session"]
