"""Mocks for both sides of an inference server: MockHost for guests, MockServer for clients."""
