"""Laws of several outputs: independent ones, and mixtures of these."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from hybridflow.errors import InputError
from hybridflow.laws.base import Floats, Law, Rows, picked
from hybridflow.laws.mixture import MixtureLaw


class JointLaw(Law):
    """The predictive distributions of n rows of k outputs.

    What a law of one output takes or returns in shape (n,) or (n, m) has one
    more axis here, the last, for the outputs: (n, k) or (n, m, k). Mean,
    standard deviation, cdf, sf and quantile are those of each output alone;
    `log_prob` is that of all outputs together.

    To write one, define `outputs`, `marginal`, `__getitem__`, `log_prob`,
    `log_mass` and `sample`.
    """

    outputs: int
    """Number k of outputs."""

    @abstractmethod
    def __getitem__(self, rows: Rows) -> JointLaw:
        """Return the law of some rows."""

    @abstractmethod
    def marginal(self, i: int) -> Law:
        """Return the law of one output, counted from 0."""

    @property
    def marginals(self) -> tuple[Law, ...]:
        """The law of each output."""
        return tuple(self.marginal(i) for i in range(self.outputs))

    def __len__(self) -> int:
        return len(self.marginal(0))

    @property
    def lattice(self) -> tuple[float, float] | None:
        """Origin and step of the lattice that all outputs share, else None."""
        first = self.marginal(0).lattice
        return first if all(law.lattice == first for law in self.marginals) else None

    def mean(self) -> Floats:
        """Return the expectations, shape (n, k)."""
        return np.stack([law.mean() for law in self.marginals], -1)

    def std(self) -> Floats:
        """Return the standard deviations, shape (n, k)."""
        return np.stack([law.std() for law in self.marginals], -1)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y_i <= y_i) of each output, shape (n, k) or (n, m, k)."""
        return self._each(y, lambda law, part: law.cdf(part))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y_i > y_i) of each output, shape (n, k) or (n, m, k)."""
        return self._each(y, lambda law, part: law.sf(part))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the quantiles of each output.

        Parameters
        ----------
        p : scalar or array of shape (n,), (n, m) or (1, m)

        Returns
        -------
        ndarray of shape (n, k) or (n, m, k)
        """
        return np.stack([law.quantile(p) for law in self.marginals], -1)

    def _parts(self, y: ArrayLike) -> list[Floats]:
        """Return the values of each output, of shape (n,) or (n, m).

        Raises
        ------
        InputError
            If the last axis is not that of the outputs.
        """
        array = np.asarray(y, dtype=np.float64)
        if array.ndim not in (2, 3) or array.shape[-1] != self.outputs:
            raise InputError(
                f"a law of {len(self)} rows and {self.outputs} outputs takes an array of shape "
                f"({len(self)}, {self.outputs}) or ({len(self)}, m, {self.outputs}), "
                f"got {array.shape}"
            )
        return [array[..., i] for i in range(self.outputs)]

    def _each(self, y: ArrayLike, what: Callable[[Law, Floats], Floats]) -> Floats:
        parts = zip(self.marginals, self._parts(y), strict=True)
        return np.stack([what(law, part) for law, part in parts], -1)


class ProductLaw(JointLaw):
    r"""Outputs that are independent of each other, given the row.

    .. math:: p(y_1, \ldots, y_k) = \prod_i p_i(y_i)

    Parameters
    ----------
    laws : sequence of Law
        One per output, each of n rows.

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw, ProductLaw
    >>> law = ProductLaw([GaussianLaw([0.0], [1.0]), GaussianLaw([5.0], [2.0])])
    >>> law.mean(), law.log_prob([[0.0, 5.0]]).round(3)
    (array([[0., 5.]]), array([-2.531]))
    """

    def __init__(self, laws: Sequence[Law]) -> None:
        self.laws = tuple(laws)
        if not self.laws:
            raise InputError("a law of several outputs needs at least one law")
        if len({len(law) for law in self.laws}) > 1:
            raise InputError(
                "the laws of the outputs must have the same number of rows, "
                f"got {[len(law) for law in self.laws]}"
            )
        self.outputs = len(self.laws)

    def __getitem__(self, rows: Rows) -> ProductLaw:
        """Return the law of some rows."""
        return ProductLaw([law[rows] for law in self.laws])

    def marginal(self, i: int) -> Law:
        """Return the law of one output, counted from 0."""
        return self.laws[i]

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-probability of all outputs together, shape (n,) or (n, m)."""
        return np.asarray(self._each(y, lambda law, part: law.log_prob(part)).sum(-1))

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower_i < Y_i <= upper_i for all i), shape (n,) or (n, m)."""
        parts = zip(self.laws, self._parts(lower), self._parts(upper), strict=True)
        return np.asarray(sum(law.log_mass(low, high) for law, low, high in parts))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples, k)."""
        return np.stack([law.sample(n_samples, rng) for law in self.laws], -1)


class JointMixture(JointLaw):
    r"""Mixtures of laws of several outputs: the members of an ensemble.

    .. math:: p(y_1, \ldots, y_k) = \sum_j w_j\, p_j(y_1, \ldots, y_k)

    Given the row, the outputs depend on each other through the member.

    Parameters
    ----------
    laws : sequence of JointLaw
        Each of n rows and k outputs.
    weights : array-like of shape (m,) or (n, m), optional
        As in `MixtureLaw`.

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw, JointMixture, ProductLaw
    >>> members = [ProductLaw([GaussianLaw([m], [1.0])] * 2) for m in (-1.0, 3.0)]
    >>> JointMixture(members).mean()
    array([[1., 1.]])
    """

    def __init__(self, laws: Sequence[JointLaw], weights: ArrayLike | None = None) -> None:
        self.laws = tuple(laws)
        if len({law.outputs for law in self.laws}) != 1:
            raise InputError(
                "the laws of a mixture must have the same number of outputs, "
                f"got {[law.outputs for law in self.laws]}"
            )
        self.outputs = self.laws[0].outputs
        self.weights = MixtureLaw([law.marginal(0) for law in self.laws], weights).weights

    def __getitem__(self, rows: Rows) -> JointMixture:
        """Return the law of some rows."""
        return JointMixture([law[rows] for law in self.laws], picked(self.weights, rows))

    def marginal(self, i: int) -> MixtureLaw:
        """Return the law of one output, counted from 0."""
        return MixtureLaw([law.marginal(i) for law in self.laws], self.weights)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-probability of all outputs together, shape (n,) or (n, m)."""
        return self._mixed([law.log_prob(y) for law in self.laws])

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower_i < Y_i <= upper_i for all i), shape (n,) or (n, m)."""
        return self._mixed([law.log_mass(lower, upper) for law in self.laws])

    def _mixed(self, logs: list[Floats]) -> Floats:
        parts = np.stack(logs, -1)
        weights = self.weights[:, None, :] if parts.ndim == 3 else self.weights
        return np.asarray(logsumexp(np.where(weights > 0, parts, -np.inf), axis=-1, b=weights))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples, k), each from one member."""
        draws = np.stack([law.sample(n_samples, rng) for law in self.laws], -1)
        edges = self.weights.cumsum(-1)
        u = (1 - rng.random((len(self), n_samples, 1))) * edges[:, None, -1:]
        chosen = (edges[:, None, :] < u).sum(-1)
        return np.take_along_axis(draws, chosen[..., None, None], -1)[..., 0]


def mixed(laws: Sequence[Law]) -> Law:
    """Return the uniform mixture of laws, of one output or of several; of one law, that law.

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw, mixed
    >>> mixed([GaussianLaw([0.0], [1.0]), GaussianLaw([2.0], [1.0])]).mean()
    array([1.])
    """
    if len(laws) == 1:
        return laws[0]
    joint = [law for law in laws if isinstance(law, JointLaw)]
    return JointMixture(joint) if len(joint) == len(laws) else MixtureLaw(laws)
