"""What is remembered of requests: the record of each, logs, metrics, traces."""
