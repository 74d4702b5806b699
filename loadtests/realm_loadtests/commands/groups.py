"""A command that is most often used without the name of a subcommand."""

from __future__ import annotations

from typing import Any

import click


class DefaultGroup(click.Group):
    """Arguments that do not begin with a subcommand's name are those of `default`, a plea for help too."""

    def __init__(self, *arguments: Any, default: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default's name before what names no subcommand."""
        if not args or args[0] not in self.commands:
            args = [self._default, *args]
        return super().parse_args(ctx, args)
