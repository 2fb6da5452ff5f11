"""Several outputs, each with a likelihood of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from hybridflow.errors import InputError
from hybridflow.laws import ProductLaw
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.specs import Target


class Independent(Likelihood):
    r"""Outputs that are independent of each other, given the row.

    .. math:: -\log p(y) = \sum_i -\log p_i(y_i \mid \eta^{(i)})

    with eta the etas of the outputs, one after the other. A row of which some
    outputs are observed is scored by these.

    Parameters
    ----------
    likelihoods : sequence of Likelihood
        One per output, each for a target of one output.
    names : sequence of str
        Of the outputs, for messages.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Gaussian, Independent
    >>> from hybridflow.specs import Target
    >>> one = Target(kind="regression")
    >>> both = Independent([Gaussian(one), Gaussian(one)], names=("a", "b"))
    >>> both.law(torch.tensor([[1.0, 0.0, 2.0, 0.0]])).mean()
    array([[1., 2.]])
    """

    def __init__(self, likelihoods: Sequence[Likelihood], names: Sequence[str]) -> None:
        super().__init__()
        self.each = nn.ModuleList(likelihoods)
        self.names = tuple(names)
        self.widths = [likelihood.outputs for likelihood in likelihoods]
        self.outputs = sum(self.widths)
        self.takes_offset = all(likelihood.takes_offset for likelihood in likelihoods)
        self.rates = tuple(
            before + column
            for likelihood, before in zip(
                likelihoods, accumulate(self.widths[:-1], initial=0), strict=True
            )
            for column in likelihood.rates
        )
        self.takes_censored = all(likelihood.takes_censored for likelihood in likelihoods)

    @property
    def _likelihoods(self) -> list[Likelihood]:
        return [part for part in self.each if isinstance(part, Likelihood)]

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta) of shape (n,), of the outputs that are observed."""
        etas = torch.split(eta, self.widths, 1)
        losses = [
            likelihood.nll(part, targets.output(i))
            for i, (likelihood, part) in enumerate(zip(self._likelihoods, etas, strict=True))
        ]
        return torch.stack(losses).sum(0)

    def law(self, eta: Tensor) -> ProductLaw:
        """Return the laws of the outputs."""
        etas = torch.split(eta, self.widths, 1)
        parts = zip(self._likelihoods, etas, strict=True)
        return ProductLaw([likelihood.law(part) for likelihood, part in parts])

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the starts of the outputs, each from the rows where it is observed."""
        starts = [
            likelihood.start(targets.output(i), weight)
            for i, likelihood in enumerate(self._likelihoods)
        ]
        return torch.cat(starts)

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Set what all rows share, of each output from the rows where it is observed."""
        for i, likelihood in enumerate(self._likelihoods):
            likelihood.initialize(targets.output(i), weight)

    def check(self, targets: TargetBatch) -> None:
        """Raise for targets that the family of their output cannot score.

        Raises
        ------
        InputError
            Which output, which values, and where.
        """
        for i, likelihood in enumerate(self._likelihoods):
            try:
                likelihood.check(targets.output(i))
            except InputError as error:
                raise InputError(f"output {self.names[i]!r}: {error}") from None


def each_output(target: Target, build: Callable[[Target], Likelihood]) -> Likelihood:
    """Return the likelihood of a target, with one family for each of its outputs.

    Parameters
    ----------
    target : Target
        Of one output or more.
    build : callable
        Returns the likelihood of a target of one output.

    Examples
    --------
    >>> from hybridflow.likelihoods import Gaussian, each_output
    >>> from hybridflow.specs import Target
    >>> target = Target(kind="regression", names=("a", "b"), location=(0, 0), scale=(1, 1))
    >>> each_output(target, Gaussian).outputs
    4
    """
    if len(target.names) == 1:
        return build(target)
    outputs = [target.output(i) for i in range(len(target.names))]
    return Independent([build(output) for output in outputs], target.names)
