"""What the sandbox costs: `realm bench abi`. Each file measures one subject; `abi` puts them together."""
