"""Linear maps that mix features: permutation, LU-factorised matrix, rotations."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hybridflow.errors import ConfigError
from hybridflow.transforms.base import Transform

_SQUARINGS = 8
_TAYLOR_DEGREE = 9


class Permutation(Transform):
    """Reorder the features.

    Parameters
    ----------
    order : sequence of int
        ``z[:, i] = x[:, order[i]]``.

    Raises
    ------
    ConfigError
        If `order` does not name every feature once.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Permutation
    >>> Permutation.reverse(3)(torch.tensor([[1.0, 2.0, 3.0]]))[0]
    tensor([[3., 2., 1.]])
    """

    order: Tensor
    place: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        if sorted(order) != list(range(len(order))):
            raise ConfigError(
                f"order: expected each of 0 to {len(order) - 1} once, got {tuple(order)}"
            )
        indices = torch.tensor(list(order), dtype=torch.int64)
        self.register_buffer("order", indices, persistent=False)
        self.register_buffer("place", torch.argsort(indices), persistent=False)

    @classmethod
    def reverse(cls, features: int) -> Permutation:
        """Return the permutation that turns the order of the features round."""
        return cls(range(features - 1, -1, -1))

    @classmethod
    def shuffled(cls, features: int, seed: int) -> Permutation:
        """Return a random permutation that depends on the seed alone."""
        order = list(range(features))
        random.Random(seed).shuffle(order)
        return cls(order)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reorder the features."""
        return x.index_select(1, self.order), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Put the features back."""
        return z.index_select(1, self.place), z.new_zeros(z.shape[0])


class LU(Transform):
    r"""A learned invertible matrix, kept as its triangular factors.

    .. math:: z = L U P x, \qquad \mathrm{ladj} = \sum_i u_i

    with a fixed permutation P, a unit lower triangular L and an upper
    triangular U with diagonal :math:`e^{u_i}`. Starts as P, the identity by
    default.

    Parameters
    ----------
    features : int
        Number d of features.
    order : sequence of int, optional
        The permutation P, as in `Permutation`; none if not given.

    References
    ----------
    Diederik Kingma, Prafulla Dhariwal. Glow: Generative Flow with Invertible
    1x1 Convolutions. 2018.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import LU
    >>> LU(2, order=[1, 0])(torch.tensor([[1.0, 2.0]]))[0]
    tensor([[2., 1.]], grad_fn=<MmBackward0>)
    """

    def __init__(self, features: int, order: Sequence[int] | None = None) -> None:
        super().__init__()
        self.permutation = Permutation(range(features) if order is None else order)
        self.lower = nn.Parameter(torch.zeros(features, features))
        self.upper = nn.Parameter(torch.zeros(features, features))
        self.log_diagonal = nn.Parameter(torch.zeros(features))

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower = torch.tril(self.lower, -1) + torch.eye(
            self.lower.shape[0], dtype=self.lower.dtype, device=self.lower.device
        )
        upper = torch.triu(self.upper, 1) + torch.diag(torch.exp(self.log_diagonal))
        return lower, upper

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply by the matrix."""
        x, _ = self.permutation(x)
        lower, upper = self._factors()
        return x @ (lower @ upper).t(), self.log_diagonal.sum().expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve with the two factors."""
        lower, upper = self._factors()
        columns = torch.linalg.solve_triangular(lower, z.t(), upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        x, _ = self.permutation.inverse(columns.t())
        return x, -self.log_diagonal.sum().expand(z.shape[0])


class Householder(Transform):
    r"""A learned rotation: a product of reflections.

    .. math:: z = H_k \cdots H_1 x, \qquad H_i = I - 2 v_i v_i^\top / |v_i|^2,
        \qquad \mathrm{ladj} = 0.

    Reflections start in equal pairs, which cancel: the rotation starts as the
    identity.

    Parameters
    ----------
    features : int
        Number d of features.
    reflections : int
        Number k of reflections; even.

    Raises
    ------
    ConfigError
        If `reflections` is not an even, positive number.

    References
    ----------
    Jakub Tomczak, Max Welling. Improving Variational Auto-Encoders using
    Householder Flow. 2016.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Householder
    >>> x = torch.randn(5, 3)
    >>> torch.allclose(Householder(3, reflections=2)(x)[0], x, atol=1e-6)
    True
    """

    def __init__(self, features: int, reflections: int) -> None:
        super().__init__()
        if reflections < 2 or reflections % 2:
            raise ConfigError(f"reflections: expected 2, 4, 6, ..., got {reflections}")
        pairs = torch.randn(reflections // 2, features)
        self.normals = nn.Parameter(pairs.repeat_interleave(2, dim=0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reflect k times."""
        return reflect(x, self.normals), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reflect in the opposite order."""
        return reflect(z, self.normals.flip(0)), z.new_zeros(z.shape[0])


class Orthogonal(Transform):
    r"""A learned rotation: the exponential of a skew-symmetric matrix.

    .. math:: z = Q x, \qquad Q = e^{A - A^\top}, \qquad \mathrm{ladj} = 0.

    Every rotation can be reached, and the start is the identity. Q is computed
    in float64, so that in any dtype its transpose is its inverse up to one
    rounding.

    Parameters
    ----------
    features : int
        Number d of features.

    References
    ----------
    Mario Lezcano-Casado, David Martinez-Rubio. Cheap Orthogonal Constraints in
    Neural Networks: A Simple Parametrization of the Orthogonal and Unitary
    Group. 2019.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Orthogonal
    >>> x = torch.randn(5, 3)
    >>> torch.equal(Orthogonal(3)(x)[0], x)
    True
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.angles = nn.Parameter(torch.zeros(features, features))

    def _matrix(self) -> Tensor:
        upper = torch.triu(self.angles.to(torch.float64), 1)
        return _exponential(upper - upper.t())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rotate."""
        return x @ self._matrix().t().to(x.dtype), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rotate back."""
        return z @ self._matrix().to(z.dtype), z.new_zeros(z.shape[0])


def reflect(x: Tensor, normals: Tensor) -> Tensor:
    """Reflect rows at the planes through 0 with the given normals, one after the other.

    Parameters
    ----------
    x : Tensor of shape (n, d)
    normals : Tensor of shape (k, d)
        Of any length but 0.

    Returns
    -------
    Tensor of shape (n, d)
    """
    # Divided by the length before squaring, so that no length overflows.
    for normal in torch.nn.functional.normalize(normals, dim=1):
        x = x - 2 * (x @ normal)[:, None] * normal
    return x


def _exponential(matrix: Tensor) -> Tensor:
    """Return the matrix exponential, by products alone, which export to ONNX.

    A rotation needs no angle above pi; the Taylor polynomial of degree 9 of a
    256th of the matrix is exact to rounding for angles up to 20.
    """
    small = matrix / 2**_SQUARINGS
    identity = torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    result = identity
    for degree in range(_TAYLOR_DEGREE, 0, -1):
        result = identity + small @ result / degree
    for _ in range(_SQUARINGS):
        result = result @ result
    return result
