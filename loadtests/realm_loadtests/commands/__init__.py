"""`realm load`, `realm calibrate`, `realm compare`."""

from realm_loadtests.commands.calibrate import calibrate_command
from realm_loadtests.commands.compare import compare_command
from realm_loadtests.commands.load import load

__all__ = ["calibrate_command", "compare_command", "load"]
