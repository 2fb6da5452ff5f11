"""Training a flow for a moment, and the density that it then has."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.specs import Circle
from hybridflow.testing.case import normal
from hybridflow.testing.supports import SUPPORTS, onto
from hybridflow.transforms.base import Transform

_ROWS = 200
_STEPS = 30
_RATE = 5e-3


def heavy_tailed(kind: str, features: int, reach: float = math.inf) -> Tensor:
    """Return correlated rows with tails of two degrees of freedom, taken onto a support.

    Parameters
    ----------
    kind : str
    features : int
    reach : float, optional
        Entries are pulled back to this size before they are taken to the support.
    """
    rows = normal(_ROWS, features, seed=21)
    rows = rows + 0.7 * rows.mean(1, keepdim=True)
    chi = normal(2 * _ROWS, 1, seed=22).view(_ROWS, 2).square().mean(1, keepdim=True)
    return onto(kind, (rows / chi.sqrt()).clamp(-reach, reach))


def log_density(flow: Transform, kind: str, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Return log p(x), with a uniform base on circles and a standard normal one else."""
    z, ladj = flow(x, context)
    support = SUPPORTS[kind]
    if isinstance(support, Circle):
        base = -x.shape[1] * math.log(support.period)
    else:
        base = -z.square().sum(1) / 2 - x.shape[1] / 2 * math.log(2 * math.pi)
    score: Tensor = base + ladj
    return score


def train(flow: Transform, rows: Tensor, kind: str, steps: int = _STEPS) -> list[float]:
    """Minimise the negative log-density for some steps; return it before each step."""
    parameters = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    losses = []
    flow.train()
    optimizer = torch.optim.Adam(parameters, lr=_RATE) if parameters else None
    for _ in range(steps):
        loss = -log_density(flow, kind, rows).mean()
        losses.append(float(loss.detach()))
        if optimizer is None or not loss.requires_grad:
            continue
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    flow.eval()
    return losses
