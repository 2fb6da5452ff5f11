"""A check, and the comparisons that checks are written with."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor


class CheckFailed(AssertionError):  # noqa: N818  # as unittest.SkipTest, no error of a program
    """A component does not do what a check asks; the message holds the figures."""


class CheckSkipped(unittest.SkipTest):
    """A check cannot run here, for the reason in the message. Test runners know this type."""


@dataclass(frozen=True)
class Check:
    """One question to one component.

    Parameters
    ----------
    component : str
        Kind and name of the component, ``"flow spline-coupling"``.
    name : str
        What holds if the check passes, ``"inverse_undoes_forward"``.
    description : str
        One line.
    body : callable
        Raises `CheckFailed` or `CheckSkipped`, or returns.

    Examples
    --------
    >>> from hybridflow import Registry
    >>> from hybridflow.testing import checks
    >>> spec, _ = Registry(entry_points=False).resolve("base", "normal")
    >>> check = next(checks(spec))
    >>> check.component, check.name
    ('base normal', 'spec_has_a_summary_and_a_reference')
    >>> check.run()
    """

    component: str
    name: str
    description: str
    body: Callable[[], None]

    def run(self) -> None:
        """Run the check; what else it raises counts as a failure.

        Raises
        ------
        CheckFailed
            If the component does not pass.
        CheckSkipped
            If something that the check needs is not installed.
        """
        try:
            self.body()
        except CheckSkipped:
            raise
        except CheckFailed as failure:
            raise CheckFailed(f"{self.component}: {self.name}: {failure}") from None
        except Exception as error:
            first, *_ = (*str(error).strip().splitlines(), "")
            raise CheckFailed(
                f"{self.component}: {self.name}: raised {type(error).__name__}: {first}"
            ) from error


def fail(message: str) -> NoReturn:
    """Fail the check that runs."""
    raise CheckFailed(message)


def expect(condition: bool, message: str) -> None:
    """Fail the check that runs unless the condition holds."""
    if not condition:
        fail(message)


def expect_below(figure: float | Tensor, limit: float, what: str) -> None:
    """Fail the check that runs unless a figure is at most `limit`; not-a-number never is."""
    number = float(figure)
    if not number <= limit:
        fail(f"{what} is {number:.3g}, at most {limit:.3g} is allowed")


def expect_close(actual: Tensor, expected: Tensor, limit: float, what: str) -> None:
    """Fail unless tensors agree: largest difference over max(1, size of what is expected)."""
    expect_shape(actual, tuple(expected.shape), what)
    if actual.numel():
        scale = expected.detach().abs().clamp(min=1)
        gap = (actual.detach() - expected.detach()).abs() / scale
        expect_below(gap.max(), limit, f"the difference of {what}")


def expect_shape(tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Fail the check that runs unless a tensor has the shape."""
    expect(
        tuple(tensor.shape) == shape, f"{what} must have shape {shape}, got {tuple(tensor.shape)}"
    )


def expect_finite(tensor: Tensor, what: str) -> None:
    """Fail the check that runs if an entry is infinite or not a number."""
    wrong = int((~torch.isfinite(tensor)).sum())
    expect(wrong == 0, f"{wrong} of {tensor.numel()} entries of {what} are not finite")
