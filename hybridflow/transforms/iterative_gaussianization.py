"""Bends along fitted directions, each found where the rows are least normal."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hybridflow.transforms.base import Transform
from hybridflow.transforms.gaussianize import Gaussianize
from hybridflow.transforms.statistics import MidDistribution, drop_unweighted

Directions = Literal["sliced", "pca", "random"]

_CANDIDATES = 4  # random orthogonal frames from which the sliced search starts
_ASCENT_STEPS = 12
_FIRST_STEP, _LAST_STEP = 0.5, 0.05
# Nats that a bend must gain for each of its numbers. Akaike's 1 keeps some bends of normal
# noise, which the search looks for; Bayes' log(n) / 2 misses too many that held-out rows confirm.
_PRICE = 1.5
_ROUNDING = 1e-6  # spread in float32, against the largest entry, that is none


class GaussianizeDirections(Transform):
    r"""Bend the rows along a few orthonormal directions, as fitted.

    .. math:: z = x + Q\,(g(Q^\top x) - Q^\top x)

    with k orthonormal columns Q and a fitted `Gaussianize` g. The rest of
    space stays, and z stays close to x. No parameter is trained: `initialize`
    chooses Q, fits g along it and keeps the bends that the rows
    support; a fresh layer, or one that finds nothing, is the identity.

    A bend is kept if it raises the log-likelihood of the rows by more than 1.5
    nats for each of its knots and each coordinate of its direction, so a small
    or a normal sample is left as it is. The number of rows is the sum of the
    weights. The context is not read.

    Parameters
    ----------
    features : int
        Number d of features.
    count : int
        Number k of directions, at most d.
    directions : {"sliced", "pca", "random"}, default="sliced"
        Those along which the rows are farthest from normal, by the squared
        Wasserstein distance; the principal axes of the largest variance; or a
        random frame.
    knots : int, default=32
        Most knots of a bend.
    seed : int, default=0
        Of the random frames.

    References
    ----------
    Scott Chen, Ramesh Gopinath. Gaussianization. 2000.

    Valero Laparra, Gustavo Camps-Valls, Jesus Malo. Iterative Gaussianization:
    From ICA to Random Rotations. 2011.

    Biwei Dai, Uros Seljak. Sliced Iterative Normalizing Flows. 2021.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import GaussianizeDirections
    >>> x = torch.rand(1000, 2, dtype=torch.float64) - 0.5
    >>> layer = GaussianizeDirections(2, count=2)
    >>> torch.allclose(layer(x)[0], x)
    True
    >>> layer.initialize(x)
    >>> layer(x)[0].amax() > 2  # a uniform variable became a normal one
    tensor(True)
    """

    frame: Tensor

    def __init__(
        self,
        features: int,
        count: int,
        directions: Directions = "sliced",
        knots: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.directions = directions
        self.seed = seed
        self.bend = Gaussianize(count, knots)
        self.register_buffer("frame", torch.eye(features, dtype=torch.float64)[:, :count].clone())

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Choose the directions, fit the bends and keep those that pay."""
        x, weight = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        count = self.frame.shape[1]
        generator = torch.Generator().manual_seed(self.seed)
        if self.directions == "pca":
            frame = _principal_axes(x, weight)[:, :count]
        elif self.directions == "random":
            frame = _random_frame(x, generator)[:, :count]
        else:
            frame = _farthest_from_normal(x, weight, count, generator)
        # All numbers are rounded to what training in float32 leaves of them.
        self.frame.copy_(frame.to(torch.float32))
        fresh = Gaussianize(count, self.bend.position.shape[0]).to(x).state_dict()
        along = x @ self._orthonormal().to(x.dtype)
        self.bend.initialize(along, weight=weight)
        fitted = self.bend.state_dict()  # shares memory with the buffers
        for value in fitted.values():
            value.copy_(value.to(torch.float32))
        gain = _gain(self.bend, along, weight)
        used = (2 * weight.sum().pow(1 / 3)).clamp(max=len(self.bend.position))
        spread = self.bend.standardize.scale / self.bend.standardize.unit
        kept = gain > _PRICE * (used + x.shape[1])
        kept &= spread > _ROUNDING * x.abs().amax()  # else the rows lie in a plane across
        for name, value in fitted.items():
            value.copy_(torch.where(kept, value, fresh[name]).to(torch.float32))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bend along the directions."""
        frame = self._orthonormal().to(x.dtype)
        along = x @ frame
        bent, ladj = self.bend(along)
        return x + (bent - along) @ frame.t(), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bend back."""
        frame = self._orthonormal().to(z.dtype)
        along = z @ frame
        straight, ladj = self.bend.inverse(along)
        return z + (straight - along) @ frame.t(), ladj

    def _orthonormal(self) -> Tensor:
        # One step of Newton and Schulz: orthonormal to rounding, though kept in float32 before.
        gram = self.frame.t() @ self.frame
        identity = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
        return self.frame @ (1.5 * identity - 0.5 * gram)


def _gain(bend: Gaussianize, along: Tensor, weight: Tensor) -> Tensor:
    """Return by how much each bend raises the log-likelihood of the rows, shape (k,)."""
    with torch.enable_grad():
        leaf = along.detach().requires_grad_()
        bent = bend(leaf)[0]
        # The bends are elementwise: the gradient of the sum is the slope of each.
        (slope,) = torch.autograd.grad(bent.sum(), leaf)
    gain: Tensor = weight @ ((along.square() - bent.detach().square()) / 2 + torch.log(slope))
    return gain


def _principal_axes(x: Tensor, weight: Tensor) -> Tensor:
    """Return the axes of the weighted covariance, largest variance first."""
    share = (weight / weight.sum())[:, None]
    centred = x - (share * x).sum(0)
    axes: Tensor = torch.linalg.eigh(centred.t() @ (share * centred)).eigenvectors
    return axes.flip(1)


def _random_frame(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random orthogonal matrix for the columns of x."""
    normal = torch.randn(x.shape[1], x.shape[1], dtype=x.dtype, generator=generator)
    frame: Tensor = torch.linalg.qr(normal).Q
    return frame.to(x.device)


def _farthest_from_normal(
    x: Tensor, weight: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Return orthonormal directions of large squared Wasserstein distance to the normal.

    The best of a few frames, then ascent on the gradient, back to orthonormal
    directions after each step.
    """
    frames = [_random_frame(x, generator) for _ in range(_CANDIDATES)]
    frames.append(torch.eye(x.shape[1], dtype=x.dtype, device=x.device))
    best, value = frames[0][:, :count], -torch.inf
    for frame in frames:
        distance = _distance(x @ frame, weight)[0]
        largest = torch.topk(distance, count)
        if float(largest.values.sum()) > value:
            best, value = frame[:, largest.indices], float(largest.values.sum())
    step = _FIRST_STEP
    _, gap = _distance(x @ best, weight)
    for _ in range(_ASCENT_STEPS):
        gradient = x.t() @ gap
        size = torch.linalg.vector_norm(gradient, dim=0).clamp(min=torch.finfo(x.dtype).tiny)
        frame = torch.linalg.qr(best + step * gradient / size).Q
        distance, proposed_gap = _distance(x @ frame, weight)
        if float(distance.sum()) > value:
            best, value, gap = frame, float(distance.sum()), proposed_gap
            continue
        step /= 2
        if step < _LAST_STEP:
            break
    return best


def _distance(along: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distance of each column to the normal, and its weighted gaps."""
    level = MidDistribution(along, weight).level(along)
    share = (weight / weight.sum())[:, None]
    gap = along - torch.special.ndtri(level)
    return (share * gap.square()).sum(0), share * gap
