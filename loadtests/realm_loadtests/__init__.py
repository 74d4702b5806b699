"""Load scenarios and measurements for LLM inference servers."""
