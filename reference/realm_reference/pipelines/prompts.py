"""A step's template: Jinja in the sandbox of the chat templates, because who writes pipelines is a stranger
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import jinja2
from jinja2 import meta

from realm_reference.model.template_budget import TemplateLimit
from realm_reference.model.template_sandbox import TemplateEnvironment

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
            raise TemplateFault(f"line {error.lineno} of the template: {_line(error)}") from None
        except (jinja2.TemplateError, ArithmeticError, RecursionError, SyntaxError, ValueError) as error:
            raise TemplateFault(f"the template does not compile: {_line(error)}") from None
        self.names = frozenset(wanted - self._environment.globals.keys())

    def render(self, fields: Mapping[str, str]) -> str:
        """The prompt; TemplateFault when the template fails or goes past the sandbox's limits."""
        try:
            return self._environment.render_bounded(self._template, fields)
        except TemplateLimit as error:
            raise TemplateFault(f"the template was stopped: {_line(error)}") from None
        except (
            jinja2.TemplateError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:
            raise TemplateFault(f"the template failed: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
