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


class KubeError(TidegateError):
    """The API server refused or failed a request. `status` is the HTTP code (0: no answer at all), `reason` the API's
    CamelCase word, `retry_after` seconds that the server asked to wait."""

    transient = False  # whether the same request may succeed later without anybody's doing

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class NotFound(KubeError):  # noqa: N818 - the API's own words
    """404: there is no such object (or no such kind)."""


class Conflict(KubeError):  # noqa: N818
    """409: the object has another resourceVersion or UID than the request says. Read again and decide again."""

    transient = True


class AlreadyExists(KubeError):  # noqa: N818
    """409 on create: an object of that name is there."""


class Forbidden(KubeError):  # noqa: N818
    """403: RBAC, quota (`quota` is True) or Pod Security refuses it."""

    @property
    def quota(self) -> bool:
        """Whether a ResourceQuota refused it: room may come."""
        return "exceeded quota" in self.message


class Invalid(KubeError):  # noqa: N818
    """400 or 422: the object itself is refused; the message names the field."""


class Expired(KubeError):  # noqa: N818
    """410: the resourceVersion or the continue token is too old; list again."""

    transient = True


class TooManyRequests(KubeError):  # noqa: N818
    """429: wait for `retry_after` seconds."""

    transient = True


class Unavailable(KubeError):  # noqa: N818
    """5xx, a broken connection or a timeout: whether the request was carried out is unknown."""

    transient = True
