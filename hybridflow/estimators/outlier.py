"""FlowOutlierDetector: rows more unusual than held-out rows are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin

from hybridflow.batches import Rows
from hybridflow.callbacks import Callback
from hybridflow.config import Config
from hybridflow.errors import ConfigError
from hybridflow.estimators.blueprint import Blueprint, latent_event
from hybridflow.estimators.columns import Declared
from hybridflow.estimators.novelty import NoveltyEstimator
from hybridflow.estimators.splits import Roles
from hybridflow.estimators.weights import read_weights
from hybridflow.registry import Registry
from hybridflow.training import TrainingConfig

AUTO = "auto"
AUTO_FLOW = "spline-coupling"
"""Whose parameters are meant where some are set and no flow is named."""

# The flows of "auto", in this order, and the noise that each learns best with.
_NOISE = {"realnvp": 0.2, "spline-coupling": 0.4, "nice": 0.1}
_USUAL_NOISE = 0.2
_LEVEL = 0.05


class FlowOutlierDetector(OutlierMixin, NoveltyEstimator):
    r"""Calls rows outliers that are more unusual than held-out rows are.

    Three flows that differ (affine, spline and additive couplings) learn the density
    of the rows blurred by Gaussian noise of 0.2, 0.4 and 0.1 deviations, each
    stopped early on other held-out rows. Columns are standardised, not bent to
    normals. The rank of a row among the rows that a flow held out, by its density and
    its latent, is a p-value, smooth and continued beyond the last of these rows; the score
    is the logarithm of the harmonic mean of all:

    .. math:: \mathrm{decision}(x) = \mathrm{score}(x) - \mathrm{offset}

    The density is `log_density`, and a p-value that assumes nothing about the tail
    `novelty_pvalue`.

    Parameters
    ----------
    flow : "auto", str or Config, default="auto"
        ``"auto"``: the three flows in turn, those of them that take the columns.
        Else the name of one in the registry, or a config, for all members.
    base : str or Config, default="normal"
        Distribution of the latent.
    columns : dict, optional
        What columns hold, by name, or by position in an array without names:
        ``Positive()``, ``Interval(low=0, high=1)``, ``Circle(period=24)``,
        ``Categorical()``. Samples then never leave it. Other columns of numbers
        may be any number, those of text, booleans and categorical types are
        categorical.
    missing : {"auto", "error"}, default="auto"
        ``"auto"``: missing cells are averaged over for the density, and a flag
        of each column that had some tells the head. ``"error"`` refuses them.
    unknown : {"other", "error"}, default="other"
        ``"other"``: a level never seen counts as one unseen level, with a
        warning. ``"error"`` refuses rows with such a level.
    contamination : "auto" or float, default="auto"
        ``"auto"``: outliers are rows whose p-value is 0.05 or less, so about one new
        usual row in twenty: the smooth one, or, where there are calibration rows,
        exactly `novelty_pvalue`. A share: the offset is that quantile of the scores
        of the training rows, so that this share of them are outliers.
    training : TrainingConfig, optional
        Its `noise` holds for every flow, if it is given.
    validation : float, splitter, array of int or None, default=0.2
        Rows held out for early stopping and p-values, other ones for each
        member: a share, splits of a splitter, or positions. Tables of fewer than 100
        distinct rows hold out no share; p-values then come from the training rows
        and are too small.
    calibration : "auto", float, splitter, array of int or None, default="auto"
        Rows that no member sees, for what is calibrated: given as `validation`
        is. ``"auto"``: a tenth, 2,000 at most, of tables of 2,000 rows and
        more; smaller ones calibrate each member on its own held-out rows.
    quality : {"fast", "default", "best"}, default="default"
        How much a fit may cost: 1, 3 or 5 members of 600, 2,000 or 6,000 steps
        at most. What `members` and `training` say goes before it.
    time_limit : float, optional
        Seconds that training may take, all members together. Each then takes as
        many steps as there is time for, so results depend on the machine.
    members : int, default=3
    n_jobs : int, optional
        Members to fit at a time, each in a process of its own with one thread; -1 for
        as many as there are cores, None for one, or what `joblib.parallel_config` says.
        The model is the same. Callbacks see one member after the other, and so
        need one process.
    device : str, default="cpu"
        ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Of the networks in training; ``"auto"`` is float64 for up to 200
        distinct rows, float32 else. Answers are computed in float64.
    random_state : int, RandomState or None, default=None
        The same whole number gives the same model, bit for bit, on a CPU.
    checkpoint : str or path, optional
        Folder in which the fit is kept while it trains: the same fit, after it was
        killed, goes on from there, and ends with the same model bit for bit on a CPU.
        Needs a whole number as `random_state`, and a folder for each fit.
    callbacks : sequence of Callback, default=()
    registry : Registry, optional
        Where names resolve; the default one if not given.

    Attributes
    ----------
    offset_ : float
        The threshold on the scores.
    models_ : list of HybridModel
    histories_ : list of list of Record
        Per member, one record per evaluation.
    schema_ : Schema
        What the audit found about each column.
    interrupted_ : bool
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X had string names.

    Notes
    -----
    Bishop's rule, low density is novel, fails where rows are simpler than the usual ones;
    blurring by noise and the mean over flows help, and are no cure. See `novelty_report`.

    References
    ----------
    Bishop: "Novelty Detection and Neural Network Validation", 1994.
    Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan: "Do Deep Generative Models
    Know What They Don't Know?", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow import FlowOutlierDetector, TrainingConfig
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> detector = FlowOutlierDetector(training=TrainingConfig(steps=100), random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0], [9.0, -9.0]])
    array([ 1, -1])
    """

    _spared_from = 100  # a fifth of these is enough for a p-value of 0.05

    offset_: float

    def __init__(
        self,
        flow: str | Config = "auto",
        base: str | Config = "normal",
        *,
        columns: Mapping[str | int, Declared] | None = None,
        missing: str = "auto",
        unknown: str = "other",
        contamination: str | float = "auto",
        training: TrainingConfig | None = None,
        validation: Any = 0.2,
        calibration: Any = "auto",
        quality: str = "default",
        time_limit: float | None = None,
        members: int = 3,
        n_jobs: int | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        random_state: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callback] = (),
        registry: Registry | None = None,
    ) -> None:
        self.flow = flow
        self.base = base
        self.columns = columns
        self.missing = missing
        self.unknown = unknown
        self.contamination = contamination
        self.training = training
        self.validation = validation
        self.calibration = calibration
        self.quality = quality
        self.time_limit = time_limit
        self.members = members
        self.n_jobs = n_jobs
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.registry = registry

    def _likelihood_weight(self) -> float:
        return 1.0

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | str | None = None) -> Self:
        """Fit the density and the threshold.

        Parameters
        ----------
        X : array-like of shape (n, d), or ParquetTable
            Of a `hybridflow.ParquetTable`, other arguments are names of its columns.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self

        Raises
        ------
        InputError
            If X or the weights cannot be used.
        ConfigError
            If a parameter cannot be used.
        TrainingDivergedError
            If training met non-finite values again and again.
        """
        share = self.contamination
        if share != AUTO and not (
            isinstance(share, float | np.floating) and 0 < float(share) <= 0.5
        ):
            raise ConfigError(f"contamination must be 'auto' or lie in (0, 0.5], got {share!r}")
        with self._alone():
            data = self._given(X, None, sample_weight)
            table = self._read_training_table(data.X)
            weight = read_weights(data.sample_weight, len(table))
            self._fit(
                data.X,
                table,
                head=None,
                target=None,
                targets=None,
                weight=weight,
                task_weight=weight,
                codes=None,
                source=data.source,
            )
        return self

    def _config(self, name: str) -> Config:
        if name == "flow" and self.flow == AUTO:
            return self._registry().resolve("flow", AUTO_FLOW)[1]
        return super()._config(name)

    def _planned(self, blueprint: Blueprint) -> Blueprint:
        flows = [blueprint.flow]
        if self.flow == AUTO:
            registry, latent = self._registry(), latent_event(blueprint.event)
            flows = [
                config
                for spec, config in (registry.resolve("flow", name) for name in _NOISE)
                if latent.kinds <= set(spec.supports) and latent.features >= spec.min_features
            ] or flows
        return replace(blueprint, flow=flows[0], others=tuple(flows[1:]), bend=False)

    def _training_for(self, blueprint: Blueprint) -> TrainingConfig:
        training = super()._training_for(blueprint)
        if training.noise is not None:
            return training
        name = self._registry().resolve("flow", blueprint.flow)[0].name
        return training.replace(noise=_NOISE.get(name, _USUAL_NOISE))

    def _after_fit(self, rows: Rows, roles: Roles) -> None:
        super()._after_fit(rows, roles)
        self.offset_ = self._novelty().threshold(_LEVEL)
        if self.contamination != AUTO:
            trained = rows[(rows.weight > 0).nonzero().squeeze(1)]
            scores, weight = self._scores(trained.x), trained.weight.cpu().numpy()
            self.offset_ = _threshold(scores, weight, float(self.contamination))

    def _scores(self, x: torch.Tensor) -> NDArray[np.float64]:
        if self.novelty_ is None:  # saved before novelty was calibrated
            return self._log_score(x)
        return self._in_parts(x, self.novelty_.log_evidence)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of the smooth p-value of each row: lower is more unusual.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
            Below 0. `log_density` is the log-density.
        """
        return self._scores(self._read(X))

    def log_density(self, X: Any) -> NDArray[np.float64]:
        """Return log p(x) of each row, averaged over members, as `FlowDensity.score_samples`.

        It is the density of rows blurred by noise; see `TrainingConfig`.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
            Nats, in the units of the data.
        """
        return self._log_score(self._read(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return score - offset of each row, shape (n,); negative for outliers."""
        return np.asarray(self.score_samples(X) - self.offset_)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return -1 for outliers and 1 for all other rows, shape (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def sample(self, n_samples: int = 1, *, random_state: Any = None) -> Any:
        """Draw rows from the density.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None

        Returns
        -------
        array or frame of shape (n_samples, d)
            In the container, names and types of the training table.
        """
        x, _ = self._draw(n_samples, random_state)
        return self.schema_.frame(self.schema_.expand(x.numpy()))


def _threshold(scores: NDArray[np.float64], weight: NDArray[np.float64], level: float) -> float:
    """Return a value that lies between two scores and has at most the share `level` below it.

    Between and not on a score, so that rounding cannot decide what an outlier is.
    """
    order = np.argsort(scores)
    ordered, share = scores[order], np.cumsum(weight[order]) / weight.sum()
    below = int(np.searchsorted(share, level * (1 + 1e-12), side="right"))
    if below == 0:
        return float(ordered[0] - 1e-6 * (1 + abs(ordered[0])))
    return float((ordered[below - 1] + ordered[min(below, len(ordered) - 1)]) / 2)
