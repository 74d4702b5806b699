"""What can go wrong with a model before it answers: always one line that names the thing, the fault and the
remedy.
"""


class ModelError(Exception):
    """A model cannot be used; the message is one line, meant for the user.

    Messages quote files that strangers wrote, so what could break the line or command a terminal is replaced.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message))


class ModelStoreError(ModelError):
    """A known model could not be found, fetched or kept in the cache."""


class ModelFileError(ModelError):
    """A GGUF file is corrupt, truncated, or of a kind that the reference does not run."""


class AdapterFileError(ModelError):
    """An adapter is missing, corrupt, of a kind that is not run, or does not fit the model."""


class ChatTemplateError(ModelError):
    """A chat template refused the conversation, failed, or did more work than a template may."""
