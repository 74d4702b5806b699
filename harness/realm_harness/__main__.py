"""`python -m realm_harness`: the `realm` command without its script."""

from realm_harness.cli import main

main()
