"""The instrument's own error on this machine."""
