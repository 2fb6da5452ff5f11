"""A mixture of normal components for every class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.densities.base import Base
from hybridflow.densities.mixture import Mixture
from hybridflow.errors import ConfigError

_SHARED = 1.0
"""Rows' worth of the whole table that each class starts from, beside its own rows."""


class ClassConditional(Base):
    r"""A mixture of classes, each a mixture of diagonal normal components.

    .. math:: p(z) = \sum_c \pi_c \, p(z \mid c), \qquad
        p(z \mid c) = \sum_{k=1}^K w_{ck} \prod_j N(z_j \mid \mu_{ckj}, \sigma_{ckj}^2)

    All of it is learned: as one mixture of all components, whose weights are
    :math:`\pi_c w_{ck}`. With labelled rows `initialize` starts every class
    from its own rows. The context is accepted and not used.

    Parameters
    ----------
    features : int
        Number of dimensions, which may be 0.
    classes : int
        Number of classes.
    components : int, default=1
        The number K of components of each class.

    Raises
    ------
    ConfigError
        If `classes` or `components` is below 1.

    References
    ----------
    .. [1] Semi-Supervised Learning with Normalizing Flows, P. Izmailov, P. Kirichenko,
           M. Finzi and A. G. Wilson, 2020

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import ClassConditional
    >>> base = ClassConditional(1, classes=2)
    >>> z, y = torch.tensor([[-3.0], [-2.0], [2.0], [3.0]]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    >>> base.initialize(z, y=y)
    >>> base.class_log_prob(torch.tensor([[-2.5], [2.5]])).argmax(1)
    tensor([0, 1])
    """

    def __init__(self, features: int, classes: int, components: int = 1) -> None:
        super().__init__()
        if classes < 1:
            raise ConfigError(f"classes must be at least 1, got {classes}")
        if components < 1:
            raise ConfigError(f"components must be at least 1, got {components}")
        self.features, self.classes, self.components = features, classes, components
        self.mixture = Mixture(features, classes * components)

    def class_log_prob(self, z: Tensor) -> Tensor:
        r"""Return :math:`\log \pi_c + \log p(z \mid c)` of each class, shape (n, classes), nats."""
        parts = self.mixture.component_log_prob(z)
        return torch.logsumexp(parts.view(z.shape[0], self.classes, self.components), 2)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, whatever its class, shape (n,), nats."""
        return self.mixture.log_prob(z)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d), of random classes."""
        return self.mixture.sample(n, None, generator)

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d) with gradients, as those of `Mixture`."""
        return self.mixture.rsample(n, None, generator)

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Start every class from its labelled rows and one row's worth of all.

        Parameters
        ----------
        z : Tensor of shape (n, d)
        context : Tensor, optional
        y : Tensor of shape (n,) or (n, 1), optional
            Codes of the classes from 0, NaN where there is no label. Without
            any label all classes start alike, from all rows.
        weight : Tensor of shape (n,), optional
        """
        if weight is None:
            weight = torch.ones(len(z), dtype=torch.float64, device=z.device)
        weight = weight.to(torch.float64)
        label = weight.new_full((len(z),), math.nan) if y is None else y.reshape(len(z))
        everywhere = _SHARED * weight / weight.sum()
        with torch.no_grad():
            for c in range(self.classes):
                own = torch.where(label == c, weight, 0.0) + everywhere
                start = Mixture(self.features, self.components).to(self.mixture.means)
                start.initialize(z, weight=own)
                block = slice(c * self.components, (c + 1) * self.components)
                self.mixture.means[block] = start.means
                self.mixture.raw[block] = start.raw
                self.mixture.logits[block] = torch.log(own.sum() / self.components)
            self.mixture.logits.sub_(self.mixture.logits.mean())
