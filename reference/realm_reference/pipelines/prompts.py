"""A step's template: Jinja in the sandbox of the chat templates, because who writes pipelines is a stranger
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import jinja2
from jinja2 import meta

from realm_reference.model.template_budget import TemplateLimit
from realm_reference.model.template_sandbox import (
    COMPILE_FAULTS,
    RENDER_FAULTS,
    TemplateEnvironment,
    one_line,
)

MAX_TEMPLATE: Final = 16 * 1024


class TemplateFault(Exception):
    """The template does not compile, or failed on these fields; one line."""


class StepTemplate:
    """A compiled template; `names` are the fields that it asks for. Safe to share between threads."""

    def __init__(self, source: str) -> None:
        """TemplateFault when it does not compile."""
        self.source = source
        self._environment = TemplateEnvironment()
        # An unknown name in a prompt is a mistake, never an empty string.
        self._environment.undefined = jinja2.StrictUndefined
        try:
            wanted = meta.find_undeclared_variables(self._environment.parse(source))
            self._template = self._environment.compile_bounded(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateFault(f"line {error.lineno} of the template: {one_line(error)}") from None
        except COMPILE_FAULTS as error:
            raise TemplateFault(f"the template does not compile: {one_line(error)}") from None
        self.names = frozenset(wanted - self._environment.globals.keys())

    def render(self, fields: Mapping[str, str]) -> str:
        """The prompt; TemplateFault when the template fails or goes past the sandbox's limits."""
        try:
            return self._environment.render_bounded(self._template, fields)
        except TemplateLimit as error:
            raise TemplateFault(f"the template was stopped: {one_line(error)}") from None
        except RENDER_FAULTS as error:
            raise TemplateFault(f"the template failed: {one_line(error)}") from None
