"""The result as a person reads it: terminal, plots."""
