"""The errors that cross module borders. Each says what a person can do about it."""

from __future__ import annotations


class TidegateError(Exception):
    """Base of every error raised on purpose."""


class NotLeaderError(TidegateError):
    """A write was attempted without a valid Lease: the work belongs to another replica now."""


class TransientError(TidegateError):
    """Something outside failed in a way that passes: the key comes back with backoff."""


class PermanentError(TidegateError):
    """Retrying can't help until a person changes something; becomes a condition.

    `reason` is a CamelCase word from `tidegate.api.reasons`, the text names the field and the cure.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
