"""The weight of the density over a run of training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hybridflow.config import Config, Float


class Schedule(Config):
    r"""A weight of the density, λ, that moves in a straight line and then stays.

    .. math::
        \lambda_t = \mathrm{start} + (\mathrm{end} - \mathrm{start})
            \min\left(1, \frac{t}{\mathrm{share} \cdot T}\right)

    for the step t = 0, 1, ... of T. Begin high to learn the density first and the
    prediction on it, begin at 0 for the other way round. The weights that are kept are
    the best at `end`, and training does not stop early before λ is there.

    Parameters
    ----------
    start : float
        λ of the first step, per dimension.
    end : float, default=0.3
        λ from the end of the schedule on, by which held-out rows are judged throughout.
    share : float, default=0.5
        Share of the steps over which λ moves, above 0 and at most 1.

    Examples
    --------
    >>> from hybridflow import HybridClassifier, Schedule
    >>> schedule = Schedule(start=1.0, end=0.2, share=0.5)
    >>> [round(schedule.at(step, 100), 2) for step in (0, 25, 50, 99)]
    [1.0, 0.6, 0.2, 0.2]
    >>> model = HybridClassifier(likelihood_weight=schedule)
    """

    start: Annotated[float, Field(ge=0), Float(1e-2, 10.0, log=True)]
    end: Annotated[float, Field(ge=0), Float(1e-2, 10.0, log=True)] = 0.3
    share: Annotated[float, Field(gt=0, le=1), Float(0.1, 1.0)] = 0.5

    @classmethod
    def constant(cls, weight: float) -> Schedule:
        """Return the schedule that is one number throughout."""
        return cls(start=weight, end=weight)

    def at(self, step: int, steps: int) -> float:
        """Return λ of one step, counted from 0, of a run of so many."""
        left = max(0.0, 1 - step / (self.share * steps))
        return self.end + (self.start - self.end) * left

    def settled(self, steps: int) -> float:
        """Return the step from which on λ is `end`."""
        return 0.0 if self.start == self.end else self.share * steps
