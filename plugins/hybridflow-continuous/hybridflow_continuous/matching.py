"""Flow matching: a velocity field learned by regression, without solving for anything."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from hybridflow.transforms.statistics import drop_unweighted
from hybridflow_continuous.transform import Continuous, Field

_BATCH = 256
_RATE = 3e-3


class FlowMatching(Continuous):
    r"""A continuous flow whose field starts from flow matching on the training rows.

    .. math:: \min_v E\,\lVert v\bigl((1 - t) x + t z,\, t,\, c\bigr) - (z - x) \rVert^2,
        \qquad t \sim U(0, 1),\; z \sim N(0, I)

    Training by the likelihood goes on from there, for as long as it is asked to.
    The draws depend on the weighted distribution of the rows alone.

    Parameters
    ----------
    features, context_features, hidden, steps
        As in `Continuous`.
    matching_steps : int
        Steps of the regression.

    References
    ----------
    .. [1] Flow Matching for Generative Modeling, Y. Lipman, R. T. Q. Chen, H. Ben-Hamu,
           M. Nickel and M. Le, 2023
    """

    def __init__(
        self,
        features: int,
        context_features: int,
        hidden: tuple[int, ...],
        steps: int,
        matching_steps: int,
    ) -> None:
        super().__init__(features, context_features, hidden, steps)
        self.matching_steps = matching_steps

    @torch.enable_grad()
    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Fit the field, in float64 and by draws of its own."""
        given = x.new_zeros(len(x), 0) if context is None else context
        rows, weight = drop_unweighted(torch.cat([x, given.to(x)], 1), weight)
        if rows.numel() == 0:
            return
        field = copy.deepcopy(self.field).to(device=x.device, dtype=torch.float64)
        _match(field, rows, weight, self.matching_steps)
        self.field.load_state_dict(field.state_dict())


def _match(field: Field, rows: Tensor, weight: Tensor, steps: int) -> None:
    # Drawn by share from sorted rows, so that neither order nor repetition matters.
    order = torch.from_numpy(np.lexsort(rows.t().cpu().numpy())).to(rows.device)
    rows, share = rows[order], (weight[order] / weight.sum()).cumsum(0)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(field.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=max(steps, 1))
    for _ in range(steps):
        level = torch.rand(_BATCH, generator=generator, dtype=torch.float64).to(rows.device)
        chosen = rows[torch.searchsorted(share, level).clamp(max=len(rows) - 1)]
        x, context = chosen[:, : field.features], chosen[:, field.features :]
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        t = torch.rand(_BATCH, 1, generator=generator, dtype=torch.float64).to(x)
        velocity = field.velocity(t, (1 - t) * x + t * z, context)
        loss = (velocity - (z - x)).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
