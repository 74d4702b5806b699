"""The cases of the host suite that are not made from the contract, a chapter a file."""
