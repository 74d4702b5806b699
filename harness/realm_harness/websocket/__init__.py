"""A strict WebSocket client: it writes frames that no library writes, and reads them as RFC 6455 says."""
