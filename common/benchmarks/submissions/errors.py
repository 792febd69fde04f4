"""Handling of faulty submissions."""

from __future__ import annotations

from common.errors import InputError


class SubmissionErrors:
    """Errors found in a submission.

    Args:
        strict: raise the first error. Otherwise errors are collected and the faulty item counts as empty.

    Attributes:
        messages: one line per error.
    """

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Add an error.

        Args:
            message: one line that names the file, frame or id.

        Raises:
            InputError: in strict mode.
        """
        if self.strict:
            raise InputError(message)
        self.messages.append(message)
