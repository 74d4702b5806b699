"""From generations to what a client reads: choices, their pieces, calls of functions, log probabilities."""
