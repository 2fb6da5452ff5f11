r"""Angles: the circle as coordinates, as features, and its rational-quadratic spline.

An angle is a number in :math:`[-\pi, \pi)`. Whatever reads one reads its cosine
and sine, and whatever maps one has the same value and slope on both sides of the cut, so
that no density knows where the cut is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hybridflow.errors import ConfigError
from hybridflow.nets import MLP
from hybridflow.transforms.base import Transform
from hybridflow.transforms.elementwise import ElementwiseMap
from hybridflow.transforms.rational_quadratic import RationalQuadraticMap

_SHORTEST = 1e-12  # squared length of a vector below which it points nowhere


def wrap(angle: Tensor) -> Tensor:
    r"""Return the same angle between :math:`-\pi` and :math:`\pi`.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms.circular import wrap
    >>> wrap(torch.tensor([4.0, -1.0]))
    tensor([-2.2832, -1.0000])
    """
    return angle - 2 * math.pi * torch.floor(angle / (2 * math.pi) + 0.5)


class CircleToAngle(Transform):
    r"""Measure periodic features by their angle.

    .. math:: z = 2\pi \Bigl(\frac xP - \Bigl\lfloor \frac xP + \frac12 \Bigr\rfloor\Bigr),
        \qquad \mathrm{ladj} = \sum_i \log\frac{2\pi}{P_i}

    Any number stands for a point of the circle; `inverse` returns the one in
    :math:`[0, P)`. Computes in float64, whatever the dtype of x.

    Parameters
    ----------
    periods : sequence of float
        The period P of each feature.

    Raises
    ------
    ConfigError
        If a period is not positive.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import CircleToAngle
    >>> hours = CircleToAngle([24.0])
    >>> hours(torch.tensor([[6.0], [30.0]]))[0]
    tensor([[1.5708],
            [1.5708]])
    >>> hours.inverse(torch.tensor([[-1.5708]]))[0].round()
    tensor([[18.]])
    """

    period: Tensor

    def __init__(self, periods: Sequence[float]) -> None:
        super().__init__()
        if any(not period > 0 for period in periods):
            raise ConfigError(f"periods: expected positive numbers, got {tuple(periods)}")
        period = torch.tensor(list(periods), dtype=torch.float64)
        self.register_buffer("period", period, persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the angle."""
        turns = x.to(self.period) / self.period
        z = 2 * math.pi * (turns - torch.floor(turns + 0.5))
        return z.to(x.dtype), self._ladj().to(x.dtype).expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the number within the first period."""
        turns = z.to(self.period) / (2 * math.pi)
        x = ((turns - torch.floor(turns)) * self.period).to(z.dtype)
        # Just below 0 rounds to a whole period, which is 0.
        x = torch.where(x < self.period.to(z.dtype), x, 0.0)
        return x, -self._ladj().to(z.dtype).expand(z.shape[0])

    def _ladj(self) -> Tensor:
        return torch.log(2 * math.pi / self.period).sum()


class CircleFeatures(nn.Module):
    r"""Rows as a network or a linear model should read them: angles by cosine and sine.

    .. math:: (x, \theta) \mapsto (x, \cos\theta, \sin\theta)

    Parameters
    ----------
    features : int
        Width of the rows.
    circles : sequence of int
        Positions of the angles.

    Attributes
    ----------
    width : int
        Width of what is returned: one more for each angle.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import CircleFeatures
    >>> CircleFeatures(2, circles=[0])(torch.tensor([[0.0, 7.0]]))
    tensor([[7., 1., 0.]])
    """

    linear: Tensor
    circular: Tensor

    def __init__(self, features: int, circles: Sequence[int]) -> None:
        super().__init__()
        linear = [i for i in range(features) if i not in circles]
        self.width = features + len(circles)
        self.plain = not circles
        for name, indices in (("linear", linear), ("circular", list(circles))):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return rows of shape (n, width)."""
        if self.plain:
            return x
        angle = x.index_select(1, self.circular)
        return torch.cat([x.index_select(1, self.linear), torch.cos(angle), torch.sin(angle)], 1)


class CircularSplineMap(ElementwiseMap):
    r"""A rotation, then a rational-quadratic spline of the circle onto itself.

    .. math:: y = \mathrm{wrap}(\mathrm{spline}(\mathrm{wrap}(x + \varphi + c)) - c), \qquad
        \varphi = \mathrm{atan2}(b, 1 + a)

    with the spline of `RationalQuadraticMap` on :math:`[-\pi, \pi]`, which has
    slope 1 at both ends: value and slope agree across the cut. Nothing is lost
    by that slope. Every smooth map of the circle onto itself has slope 1
    somewhere, and the rotation puts the cut there.

    The rotation is the direction of a vector, so that it can follow another
    angle once around: where :math:`(1 + a, b) = (\cos\theta, \sin\theta)` it is
    that angle, without a jump.

    Parameters
    ----------
    bins : int, default=8
        Number K of bins; there are 3K + 1 parameters.
    cut : float, default=0.0
        Where c puts the cut at zero parameters, off :math:`\pm\pi`: splines that
        follow each other should not all have it in one place.

    References
    ----------
    Danilo Rezende, George Papamakarios, Sébastien Racanière, Michael Albergo,
    Gurtej Kanwar, Phiala Shanahan, Kyle Cranmer. Normalizing Flows on Tori and
    Spheres. 2020.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import CircularSplineMap
    >>> spline = CircularSplineMap(bins=4, cut=1.0)
    >>> x = torch.tensor([-3.0, 3.0])
    >>> torch.allclose(spline.forward(x, torch.zeros(13, 2))[0], x)
    True
    """

    def __init__(self, bins: int = 8, cut: float = 0.0) -> None:
        self.spline = RationalQuadraticMap(bins, bound=math.pi)
        self.cut = cut
        self.n_parameters = self.spline.n_parameters + 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate, then apply the spline."""
        y, ladj = self.spline.forward(wrap(x + self._rotation(params)), params[:-2])
        return wrap(y - self.cut), ladj

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the spline, then rotate back."""
        x, ladj = self.spline.inverse(wrap(y + self.cut), params[:-2])
        return wrap(x - self._rotation(params)), ladj

    def _rotation(self, params: Tensor) -> Tensor:
        along, across = 1 + params[-2], params[-1]
        # A vector of no length has no direction, and no gradient.
        pointing = along.square() + across.square() > _SHORTEST
        angle = torch.atan2(torch.where(pointing, across, 0.0), torch.where(pointing, along, 1.0))
        return angle + self.cut


class CircularCoupling(Transform):
    r"""Map some features, real ones and angles, by parameters computed from the others.

    .. math:: z_A = x_A, \qquad z_B = m_B(x_B;\, \theta = \mathrm{MLP}(\varphi(x_A), c))

    with :math:`\varphi` the `CircleFeatures` of what is kept, and a map for the
    real and one for the circular features of B.

    Parameters
    ----------
    real, circular : ElementwiseMap
        The maps.
    mask : sequence of bool, one per feature
        True for the features A that are kept.
    circles : sequence of int
        Positions of the angles.
    hidden : tuple of int
        Widths of the hidden layers of the conditioner.
    context_features : int, default=0
        Width of the context.

    Raises
    ------
    ConfigError
        If the mask keeps every feature.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import (
    ...     CircularCoupling, CircularSplineMap, RationalQuadraticMap
    ... )
    >>> coupling = CircularCoupling(
    ...     RationalQuadraticMap(), CircularSplineMap(), [True, False], circles=[0], hidden=(8,)
    ... )
    >>> x = torch.tensor([[3.0, -1.0]])
    >>> torch.allclose(coupling(x)[0], x)
    True
    """

    kept: Tensor
    mapped: Tensor
    restore: Tensor

    def __init__(
        self,
        real: ElementwiseMap,
        circular: ElementwiseMap,
        mask: Sequence[bool],
        circles: Sequence[int],
        hidden: tuple[int, ...],
        context_features: int = 0,
    ) -> None:
        super().__init__()
        kept = [i for i, keep in enumerate(mask) if keep]
        straight = [i for i, keep in enumerate(mask) if not keep and i not in circles]
        round_ = [i for i, keep in enumerate(mask) if not keep and i in circles]
        if not straight and not round_:
            raise ConfigError(f"mask: at least one feature must not be kept, got {tuple(mask)}")
        self.maps = [pair for pair in ((real, straight), (circular, round_)) if pair[1]]
        self.read = CircleFeatures(len(kept), [k for k, i in enumerate(kept) if i in circles])
        outputs = sum(elementwise.n_parameters * len(columns) for elementwise, columns in self.maps)
        self.net = MLP(self.read.width, hidden, outputs, context_features)
        order = torch.tensor([*kept, *straight, *round_], dtype=torch.int64)
        self.register_buffer("kept", order[: len(kept)].clone(), persistent=False)
        self.register_buffer("mapped", order[len(kept) :].clone(), persistent=False)
        self.register_buffer("restore", torch.argsort(order), persistent=False)

    @property
    def exact_inverse(self) -> bool:
        """Whether the maps have exact inverses."""
        return all(elementwise.exact_inverse for elementwise, _ in self.maps)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the features that are not kept."""
        return self._map(x, context, inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward` from the kept features."""
        return self._map(z, context, inverse=True)

    def _map(self, rows: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        kept = rows.index_select(1, self.kept)
        mapped = rows.t().index_select(0, self.mapped)  # feature-major, (features, n)
        outputs = self.net.feature_major(self.read(kept), context)
        images, ladjs = [kept.t()], []
        for elementwise, columns in self.maps:
            count = len(columns)
            size = elementwise.n_parameters * count
            params = outputs[:size].view(elementwise.n_parameters, count, -1)
            move = elementwise.inverse if inverse else elementwise.forward
            image, ladj = move(mapped[:count], params)
            images.append(image)
            ladjs.append(ladj.sum(0))
            mapped, outputs = mapped[count:], outputs[size:]
        return torch.cat(images).t().index_select(1, self.restore), sum(ladjs[1:], ladjs[0])
