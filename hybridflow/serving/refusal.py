"""Why a request is not answered, as a status and a message."""

from __future__ import annotations

from typing import Final

CODES: Final = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    500: "INTERNAL_ERROR",
}
"""The names of the statuses, as ``error_code`` says them."""


class RefusedError(Exception):
    """A request that is refused.

    Parameters
    ----------
    status : int
        One of `CODES`.
    message : str
        What was seen, where, and what is expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
