"""What a server takes before it refuses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hybridflow.config import Config


class Limits(Config):
    """What a server takes before it refuses.

    Parameters
    ----------
    body : int, default=16777216
        Bytes of a request's body.
    rows : int, default=100000
        Rows of a request.
    seconds : float, default=10
        Within which the head of a request must be there, and then its body.
    extra : {"error", "ignore"}, default="error"
        What is done about columns that the model does not know: ``"ignore"`` names them among
        the warnings of the reply.

    Examples
    --------
    >>> from hybridflow.serving import Limits
    >>> Limits(rows=1000).body
    16777216
    """

    body: Annotated[int, Field(ge=1)] = 16 * 2**20
    rows: Annotated[int, Field(ge=1)] = 100_000
    seconds: Annotated[float, Field(gt=0)] = 10.0
    extra: Literal["error", "ignore"] = "error"
