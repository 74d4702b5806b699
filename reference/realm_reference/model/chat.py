"""The chat template of a model: a Jinja program that came with the file, and is therefore a stranger's
program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import meta

from realm_reference.model.errors import ChatTemplateError
from realm_reference.model.gguf import GGUFFile
from realm_reference.model.published_formats import published_format
from realm_reference.model.template_budget import TemplateLimit
from realm_reference.model.template_sandbox import (
    COMPILE_FAULTS,
    RENDER_FAULTS,
    TemplateEnvironment,
    one_line,
)


class ChatTemplate:
    """A compiled chat template; `render` turns a conversation into the prompt's text. Safe to share between
    threads.
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self._environment = TemplateEnvironment()
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self._template = self._environment.compile_bounded(source)
            self._variables = meta.find_undeclared_variables(self._environment.parse(source))
        except COMPILE_FAULTS as error:
            raise ChatTemplateError(
                f"the model's chat template does not compile: {one_line(error)}"
            ) from None

    @classmethod
    def from_gguf(
        cls, file: GGUFFile, texts: Sequence[str], bos: int | None, eos: int | None
    ) -> ChatTemplate | None:
        """The template in `tokenizer.chat_template`, or else the published format of the architecture; None
        if there is neither, and the model so cannot chat.

        Raises ModelFileError for one that does not compile.
        """
        source = file.metadata.get("tokenizer.chat_template")
        if source is None:
            published = published_format(str(file.metadata.get("general.architecture")), texts)
            if published is None:
                return None
            source = published.template
        try:
            return cls(
                str(source),
                bos_token="" if bos is None else texts[bos],
                eos_token="" if eos is None else texts[eos],
            )
        except ChatTemplateError as error:
            raise file.error(str(error)) from None

    @property
    def call_syntax(self) -> str | None:
        """How it asks the model to write calls of functions: "hermes" (and Qwen), "mistral" or "llama3"; None
        where it writes out no functions, or asks for calls in a way that is not known here.
        """
        if "tools" not in self._variables:
            return None
        # Mistral's newer templates have names and arguments apart, with [ARGS] between them.
        known = {"hermes": "<tool_call>", "mistral": "[TOOL_CALLS]", "llama3": '"parameters"'}
        name = next((name for name, mark in known.items() if mark in self.source), None)
        return None if name == "mistral" and "[ARGS]" in self.source else name

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The prompt for `messages` ({"role", "content", ...} each), ending where the assistant's turn
        begins if asked. `tools` are functions as OpenAI describes them.

        Raises ChatTemplateError when the template refuses the conversation (raise_exception), fails, or
        goes past the limits of `TemplateEnvironment`.
        """
        # Templates ask whether tools and documents `is none`, which an undefined name is not.
        variables: dict[str, Any] = {**self._tokens, "messages": messages, "tools": tools, "documents": None}
        variables["add_generation_prompt"] = add_generation_prompt
        try:
            return self._environment.render_bounded(self._template, variables)
        except TemplateLimit as error:
            raise ChatTemplateError(f"the model's chat template was stopped: {one_line(error)}") from None
        except RENDER_FAULTS as error:
            raise ChatTemplateError(
                f"the model's chat template refused the messages: {one_line(error)}"
            ) from None
