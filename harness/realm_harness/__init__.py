"""Conformance chapters for LLM inference servers, and the proof that they catch defects."""
