"""FlowDensity: the density of the rows alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import DensityMixin

from hybridflow.callbacks import Callback
from hybridflow.config import Config
from hybridflow.estimators.columns import Declared
from hybridflow.estimators.novelty import NoveltyEstimator
from hybridflow.estimators.weights import read_weights
from hybridflow.registry import Registry
from hybridflow.training import TrainingConfig


class FlowDensity(DensityMixin, NoveltyEstimator):
    r"""The density of a table, exact, by a normalizing flow.

    .. math:: \log p(x) = \log p_{base}(z) + \log|\det dz/dx|, \qquad z = f(x)

    Parameters
    ----------
    flow : str or Config, default="spline-coupling"
        Name in the registry, or a config.
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
    training : TrainingConfig, optional
    validation : float, splitter, array of int or None, default=0.15
        Rows held out for early stopping: a share, the first split of a
        splitter, or positions. Tables of up to 200 distinct rows hold out no
        share.
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
    members : int, optional
        Models with different held-out rows, mixed uniformly; by `quality` if
        not given.
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
    models_ : list of HybridModel
    histories_ : list of list of Record
        Per member, one record per evaluation.
    schema_ : Schema
        What the audit found about each column.
    interrupted_ : bool
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X had string names.

    References
    ----------
    Papamakarios, Nalisnick, Rezende, Mohamed, Lakshminarayanan: "Normalizing
    Flows for Probabilistic Modeling and Inference", 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> X, _ = load_iris(return_X_y=True)
    >>> model = FlowDensity(training=TrainingConfig(steps=100), random_state=0).fit(X)
    >>> model.score_samples(X[:3]).shape, model.sample(5, random_state=0).shape
    ((3,), (5, 4))
    """

    def __init__(
        self,
        flow: str | Config = "spline-coupling",
        base: str | Config = "normal",
        *,
        columns: Mapping[str | int, Declared] | None = None,
        missing: str = "auto",
        unknown: str = "other",
        training: TrainingConfig | None = None,
        validation: Any = 0.15,
        calibration: Any = "auto",
        quality: str = "default",
        time_limit: float | None = None,
        members: int | None = None,
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
        """Fit the density.

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

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`, in nats per row."""
        return float(np.mean(self.score_samples(X)))

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
