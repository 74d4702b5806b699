"""A Jinja environment for programs that strangers wrote.

Jinja's sandbox keeps a template away from Python's attributes, but not from the machine's time and memory:
two nested ranges are 10**10 rounds, and doubling a string forty times is a terabyte. Here each value that a
template makes, each loop round and each macro call is paid for, from a budget of work and under a deadline,
before the memory is taken. What cannot be priced (formatting, padding, most of the filters) is not offered;
what is left is what chat templates use.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from realm_reference.model.template_budget import Budget, TemplateLimit, price, price_of_product

_MAX_INDENT = 8

# What a stranger's template raises, apart from TemplateLimit, when it is compiled and when it is rendered.
COMPILE_FAULTS: Final = (jinja2.TemplateError, ArithmeticError, RecursionError, SyntaxError, ValueError)
RENDER_FAULTS: Final = (
    jinja2.TemplateError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)


def one_line(error: BaseException) -> str:
    """What a template's failure says, on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FILTERS = _names(
    """abs capitalize count d default dictsort e escape first float int items join last length list lower map
    max min reject rejectattr replace reverse round safe select selectattr sort string title tojson trim
    unique upper"""
)
_STRING_METHODS = _names(
    """capitalize count endswith find index isalnum isalpha isdigit islower isspace istitle isupper join lower
    lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines
    startswith strip swapcase title upper"""
)
_CONTAINER_METHODS = _names("copy count get index items keys values")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Hugging Face's conventions for chat templates, in a sandbox that allows 2 seconds and 64 Mi characters.

    The conventions: trimmed blocks, loop controls, raise_exception, tojson, strftime_now, the generation tag.
    """

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        # Unoptimised, because the optimiser computes constant expressions while it compiles: off the budget.
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], optimized=False
        )
        self._budget = Budget()
        filters = {**self.filters, "tojson": _tojson}
        self.filters = {name: self._paid(name, filters[name]) for name in _FILTERS}
        self.globals = {
            **{name: self.globals[name] for name in ("range", "dict", "namespace")},
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def compile_bounded(self, source: str) -> jinja2.Template:
        """The template with the checks woven in; raises jinja2.TemplateError for a fault in its syntax."""
        return self.from_string(_Weaver().visit(self.parse(source)))

    def render_bounded(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """The template's output; raises TemplateLimit past a limit, and what Jinja raises for the
        template's own faults.
        """
        self._budget.begin()
        pieces = []
        for piece in template.generate(**variables):
            self._budget.pay(len(piece))
            pieces.append(piece)
        return "".join(pieces)

    def pay(self) -> None:
        """Pay for one round of a loop or one call of a macro."""
        self._budget.pay()

    def rounds(self, items: Iterable[Any]) -> Iterator[Any]:
        """`items`, each paid for."""
        for item in items:
            self.pay()
            yield item

    def made(self, value: Any) -> Any:
        """`value`, paid for."""
        self._budget.pay(price(value))
        return value

    def joined(self, *values: Any) -> str:
        """The `~` operator, and the text of any value on its way out."""
        return "".join(str(self.made(value)) for value in values)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The intercepted operators; the price of the result is known before it is made."""
        if operator == "+":
            self._budget.pay(price(left) + price(right))
        else:
            self._budget.pay_times(*price_of_product(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call in the template; string methods are paid like the filters of their names."""
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            __self._pay_text(__obj.__name__, owner, args)
        return super().call(__context, __obj, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """What Jinja's sandbox allows, but of the built-in types only the methods whose cost is known."""
        if isinstance(obj, str):
            return attr in _STRING_METHODS
        if isinstance(obj, (Mapping, list, tuple)):
            return attr in _CONTAINER_METHODS
        return not isinstance(obj, (int, float, bytes)) and super().is_safe_attribute(obj, attr, value)

    def _paid(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        # Some filters are passed the environment or the context before the template's own arguments.
        first = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def paid(*args: Any, **kwargs: Any) -> Any:
            value, *others = args[first:]
            if name == "join":
                value = list(self.rounds(value))
                self._pay_text("join", others[0] if others else "", [value])
            elif name == "replace":
                self._pay_text("replace", self.joined(value), others)
            else:
                self._budget.pay(price(value) + price(others) + price(kwargs))
            return function(*args[:first], value, *others, **kwargs)

        return paid

    def _pay_text(self, name: str, text: Any, args: Any) -> None:
        """Pay for the result of a string operation: `replace` and `join` can multiply, the others cannot."""
        if name == "replace":
            self._budget.pay_times(price(args[1] if len(args) > 1 else ""), len(str(text)) + 1)
        elif name == "join" and args:
            items = args[0] if isinstance(args[0], (list, tuple, str, Mapping)) else ()
            self._budget.pay_times(price(text), len(items))
        self._budget.pay(price(text) + price(args))


class _Weaver(NodeTransformer):
    """Puts the budget's checks into a parsed template: rounds, macros, literals, `~` and output."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _method("rounds", [node.iter])
        # A recursive loop is called with iterables of its own, so its body pays as well.
        node.body.insert(0, nodes.ExprStmt(_method("pay", [])))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_method("pay", [])))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _method("joined", node.nodes)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [n if isinstance(n, nodes.TemplateData) else _method("joined", [n]) for n in node.nodes]
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _method("made", [node])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _method("made", [node])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _method("made", [node]) if node.ctx == "load" else node


def _method(name: str, args: Sequence[nodes.Node]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), cast("list[nodes.Expr]", list(args)), [], None, None)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks words to train on; here it is its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja reads it from the class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is written to a model: not escaped for HTML, unlike Jinja's own filter."""
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise TemplateLimit(f"it indents by {indent}")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
