"""Scores of how unusual a row is, behind one interface; none is right everywhere."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hybridflow.config import Config

Floats = NDArray[np.float64]

_NORMAL_QUARTILE = 1.3489795003921634  # between the quartiles of a standard normal
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Reading:
    """What one member says about n rows.

    Parameters
    ----------
    log_density : ndarray of shape (n,)
        log p(x) in nats, as it is scored.
    latent : ndarray of shape (n, D)
    standard : ndarray of shape (n, D)
        The numbers behind the elementwise layers, in front of the flow.
    ladj : ndarray of shape (n,)
        Of these layers.
    """

    log_density: Floats
    latent: Floats
    standard: Floats
    ladj: Floats

    def __getitem__(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Reading:
        return Reading(
            self.log_density[rows], self.latent[rows], self.standard[rows], self.ladj[rows]
        )


class Fit(Config):
    """What the scores of one member compare with.

    Parameters
    ----------
    typical : float
        Median of log p(x).
    center, spread : tuple of float
        Median and robust deviation of each latent.
    mean, deviation : tuple of float
        Of each column behind the elementwise layers.
    """

    typical: float
    center: tuple[float, ...]
    spread: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def fit_scores(reading: Reading, weight: Floats) -> Fit:
    """Fit what scores compare with to usual rows.

    Parameters
    ----------
    reading : Reading
    weight : ndarray of shape (n,)
        Not all 0; weights count rows.

    Returns
    -------
    Fit

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.novelty import Reading, fit_scores
    >>> z = np.array([[-1.0], [0.0], [1.0]])
    >>> fit_scores(Reading(np.array([-3.0, -2.0, -1.0]), z, z, np.zeros(3)), np.ones(3)).typical
    -2.0
    """
    low, center, high = (quantile(reading.latent, weight, p) for p in (0.25, 0.5, 0.75))
    spread = np.maximum((high - low) / _NORMAL_QUARTILE, _LEAST_SPREAD)
    share = (weight / weight.sum())[:, None]
    mean = (share * reading.standard).sum(0)
    deviation = np.sqrt((share * (reading.standard - mean) ** 2).sum(0))
    return Fit(
        typical=float(quantile(reading.log_density[:, None], weight, 0.5)[0]),
        center=tuple(center.tolist()),
        spread=tuple(spread.tolist()),
        mean=tuple(mean.tolist()),
        deviation=tuple(np.maximum(deviation, _LEAST_SPREAD).tolist()),
    )


def quantile(values: Floats, weight: Floats, level: float) -> Floats:
    """Return the weighted quantile of each column; a weight is as good as a repetition."""
    used = weight > 0
    return np.asarray(
        np.quantile(values[used], level, axis=0, weights=weight[used], method="inverted_cdf")
    )


class Score(ABC):
    """How unusual a row is: higher is more unusual.

    To write one, give it a name and say what it is, where it is from and where it
    fails, and define `values`.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    fails: ClassVar[str]
    """Where it is known to fail, in one sentence for readers of a report."""
    fewest_members: ClassVar[int] = 1

    @abstractmethod
    def values(self, readings: Sequence[Reading], fits: Sequence[Fit]) -> Floats:
        """Return the score of each row by some members, shape (n,); may not be a number."""

    def __call__(self, readings: Sequence[Reading], fits: Sequence[Fit]) -> Floats:
        """Return the score of each row by some members, shape (n,).

        A row outside the support of a column is infinitely unusual.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            found = self.values(readings, fits)
        impossible = np.isneginf(readings[0].log_density) | np.isnan(found)
        return np.where(impossible, np.inf, found)


class Density(Score):
    r"""Minus the log-density, averaged over members.

    .. math:: -\log \bar p(x) = -\log \frac{1}{M} \sum_m p_m(x)
    """

    name = "density"
    formula = "-log p(x)"
    source = 'Bishop: "Novelty Detection and Neural Network Validation", 1994.'
    fails = (
        "rows simpler or more central than the usual ones have a high density and pass "
        "(Nalisnick et al. 2019); what is rare depends on the units and encoding of the columns "
        "(Le Lan, Dinh 2021)"
    )

    def values(self, readings: Sequence[Reading], fits: Sequence[Fit]) -> Floats:
        each = np.stack([reading.log_density for reading in readings])
        return np.asarray(math.log(len(each)) - np.logaddexp.reduce(each, axis=0))


class Latent(Score):
    r"""The squared distance of the latent from its middle, robustly scaled.

    .. math:: \sum_j \left(\frac{z_j - \mathrm{median}_j}{\mathrm{IQR}_j / 1.349}\right)^2

    About chi-square with D degrees of freedom for usual rows, if the base is normal.
    """

    name = "latent"
    formula = "sum of ((z - median) / robust deviation) squared"
    source = (
        'Grubbs and chi-square rules on latents; Kirichenko, Izmailov, Wilson: "Why Normalizing '
        'Flows Fail to Detect Out-of-Distribution Data", 2020.'
    )
    fails = (
        "it ignores how much the flow stretches space, so rows in a gap between clusters, which "
        "are mapped to the middle, pass; it rests on one map of many that give the same density "
        "(Le Lan, Dinh 2021)"
    )

    def values(self, readings: Sequence[Reading], fits: Sequence[Fit]) -> Floats:
        each = [
            (((reading.latent - np.array(fit.center)) / np.array(fit.spread)) ** 2).sum(1)
            for reading, fit in zip(readings, fits, strict=True)
        ]
        return np.asarray(np.mean(each, axis=0))


class Typicality(Score):
    r"""How far the log-density is from its typical value, on either side.

    .. math:: |\log p(x) - \mathrm{median} \log p|
    """

    name = "typicality"
    formula = "|log p(x) - its median|"
    source = (
        'Nalisnick, Matsukawa, Teh, Lakshminarayanan: "Detecting Out-of-Distribution Inputs to '
        'Deep Generative Models Using Typicality", 2019.'
    )
    fails = (
        "for single rows in few dimensions it calls the most usual rows unusual, and it misses "
        "strange rows of ordinary density (Zhang, Goldstein, Ranganath 2021)"
    )

    def values(self, readings: Sequence[Reading], fits: Sequence[Fit]) -> Floats:
        each = [
            np.abs(reading.log_density - fit.typical)
            for reading, fit in zip(readings, fits, strict=True)
        ]
        return np.asarray(np.mean(each, axis=0))


class Background(Score):
    r"""Minus the log-density over that of a background of independent columns.

    .. math:: -\log \frac{p(x)}{q(x)}, \qquad q(x) = \prod_j N(s_j; m_j, d_j^2)\,|ds_j / dx_j|

    with s the standardised columns. It is high where columns are usual each by
    itself, and unusual together.
    """

    name = "background"
    formula = "-log p(x) / q(x), q independent columns"
    source = (
        'Ren, Liu, Fertig, Snoek, Poplin, DePristo, Dillon, Lakshminarayanan: "Likelihood Ratios '
        'for Out-of-Distribution Detection", 2019.'
    )
    fails = (
        "a row with one extreme cell is as unusual to the background as to the model, and passes; "
        "it is as good as its background (Zhang, Goldstein, Ranganath 2021)"
    )

    def values(self, readings: Sequence[Reading], fits: Sequence[Fit]) -> Floats:
        each = []
        for reading, fit in zip(readings, fits, strict=True):
            mean, deviation = np.array(fit.mean), np.array(fit.deviation)
            log_normal = -0.5 * (((reading.standard - mean) / deviation) ** 2).sum(1)
            constant = np.log(deviation).sum() + 0.5 * len(mean) * math.log(2 * math.pi)
            each.append(log_normal - constant + reading.ladj - reading.log_density)
        return np.asarray(np.mean(each, axis=0))


class Disagreement(Score):
    r"""How much members differ about the log-density.

    .. math:: \mathrm{std}_m\,(\log p_m(x) - \mathrm{median}_m)
    """

    name = "disagreement"
    formula = "standard deviation over members of log p(x), each less its median"
    source = (
        'Choi, Jang, Alemi: "WAIC, but Why? Generative Ensembles for Robust Anomaly Detection", '
        "2018."
    )
    fails = (
        "members that are wrong together agree; it grows with any distance from the training "
        "rows, in directions that matter and in others"
    )
    fewest_members = 2

    def values(self, readings: Sequence[Reading], fits: Sequence[Fit]) -> Floats:
        each = [
            reading.log_density - fit.typical for reading, fit in zip(readings, fits, strict=True)
        ]
        return np.asarray(np.std(each, axis=0))


SCORES: dict[str, Score] = {
    score.name: score for score in (Density(), Latent(), Typicality(), Background(), Disagreement())
}
"""Every score, by name."""

COMBINED = ("density", "latent")
"""What ``"combined"`` combines, by the harmonic mean of p-values."""
