"""From records to figures: definitions, intervals, steady state, objectives, comparisons."""
