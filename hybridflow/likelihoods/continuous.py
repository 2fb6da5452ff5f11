"""Likelihoods of real numbers with a smooth density, whose cells are found by quadrature."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hybridflow.likelihoods.real_valued import RealValued
from hybridflow.specs import Target


class Continuous(RealValued):
    r"""A likelihood with a smooth density on the real line.

    The mass of a cell is the density integrated over it by Gauss-Legendre
    quadrature, which takes one density of any family and is accurate because no
    spread may be smaller than a quarter of the cell.

    To write one, set `outputs` and define `log_density`, `continuous_law` and
    `standard_start`; `spread` is the link of a scale.

    Parameters
    ----------
    target : Target
        A regression of one output.

    Raises
    ------
    ConfigError
        If the target has more than one output.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        cell = self.step / self.scale / self.floor
        self._nodes, self._weights = np.polynomial.legendre.leggauss(math.ceil(8 + 3 * cell))

    def log_mass(self, v: Tensor, half: float, eta: Tensor) -> Tensor:
        """Return the log-probability of the cells around v, shape (n,)."""
        density = self.log_density(v + half * v.new_tensor(self._nodes), eta)
        log_prob = torch.logsumexp(density + v.new_tensor(np.log(self._weights)), 1)
        return log_prob + math.log(half)
