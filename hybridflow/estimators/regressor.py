"""HybridRegressor: numbers, their whole law, and the density of the rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from hybridflow.callbacks import Callback
from hybridflow.config import Config
from hybridflow.estimators.answers import IntervalEstimator
from hybridflow.estimators.columns import Declared
from hybridflow.estimators.outcomes import (
    batch_of_outcomes,
    log_probability,
    outcome_target,
    read_one,
    read_outcomes,
)
from hybridflow.estimators.parameters import check_seed
from hybridflow.estimators.sampling import sample_given
from hybridflow.estimators.targets import warn_if_reordered
from hybridflow.estimators.weights import read_weights
from hybridflow.laws import Law, mixed
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.metrics import concordance_index
from hybridflow.registry import Registry
from hybridflow.schedule import Schedule
from hybridflow.training import TrainingConfig


class HybridRegressor(RegressorMixin, IntervalEstimator):
    r"""A regressor that gives the whole law of y and knows the density of its rows.

    A flow turns a row into a latent z with an exact density; a generalized
    linear head on z gives the law of y. Both are trained together:

    .. math::
        \mathrm{loss} = \overline{-\log p(y \mid z)} + \frac{\lambda}{D} \overline{-\log p(x)}

    A target of whole numbers is scored as a mass, any other as a density.

    Parameters
    ----------
    flow : str or Config, default="spline-coupling"
        Name in the registry, or a config.
    base : str or Config, default="normal"
        Distribution of the latent.
    head : str or Config, default="mixture"
        What turns the latent into a law for y: ``"mixture"``, ``"gaussian"``,
        ``"student-t"``, ``"poisson"``, or a plugin's.
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
    likelihood_weight : float or Schedule, default=0.3
        λ per dimension: 0 is discriminative, D the joint likelihood. A `Schedule` moves it
        in the course of training.
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
    n_labeled_ : int
        Rows with a number.
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
    Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan: "Hybrid Models with
    Deep and Invertible Features", 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from hybridflow import HybridRegressor, TrainingConfig
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = HybridRegressor(training=TrainingConfig(steps=100), random_state=0).fit(X, y)
    >>> model.predict(X[:2]).shape, model.predict_distribution(X[:2]).quantile(0.9).shape
    ((2,), (2,))
    """

    n_labeled_: int

    def __init__(
        self,
        flow: str | Config = "spline-coupling",
        base: str | Config = "normal",
        head: str | Config = "mixture",
        *,
        columns: Mapping[str | int, Declared] | None = None,
        missing: str = "auto",
        unknown: str = "other",
        likelihood_weight: float | Schedule = 0.3,
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
        self.head = head
        self.columns = columns
        self.missing = missing
        self.unknown = unknown
        self.likelihood_weight = likelihood_weight
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | str | None = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n, d), or ParquetTable
            Of a `hybridflow.ParquetTable`, other arguments are names of its columns.
        y : array-like of shape (n,) or (n, k), frame, or structured array
            Numbers, of one output or several; rows where none is known train
            the density alone. A boolean and a numeric column are an event and
            its time, censored from the right where the event is false; columns
            ``lower`` and ``upper`` are bounds of y.
        sample_weight : array-like of shape (n,), optional
            Weight of each row, in both terms of the loss.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If X, y or the weights cannot be used, or y does not fit the head.
        ConfigError
            If a parameter cannot be used.
        TrainingDivergedError
            If training met non-finite values again and again.
        """
        with self._alone():
            data = self._given(X, y, sample_weight)
            X, y = data.X, data.y
            table = self._read_training_table(X)
            outcomes = read_outcomes(y, len(table), type(self).__name__)
            warn_if_reordered(X, y)
            weight = read_weights(data.sample_weight, len(table))
            target = outcome_target(outcomes, weight)
            self.n_labeled_ = int(outcomes.labelled.sum())
            self._fit(
                X,
                table,
                head=self.head,
                target=target,
                targets=batch_of_outcomes(outcomes),
                weight=weight,
                task_weight=weight,
                codes=None,
                source=data.source,
                read_targets=partial(_targets, name=type(self).__name__),
            )
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the expectation of y for each row, shape (n,) or (n, k), in the units of y."""
        return self.predict_distribution(X).mean()

    def predict_distribution(self, X: Any) -> Law:
        """Return the law of y for each row: mean, std, cdf, quantile, log_prob, sample.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        Law
            The uniform mixture over members.
        """
        return self._law(self._read(X))

    def _laws(self, x: torch.Tensor) -> list[Law]:
        """Return the laws of each member."""
        laws = []
        with torch.no_grad():
            for model in self.models_:
                assert model.head is not None
                laws.append(model.head.law(model.eta(x)))
        return laws

    def _law(self, x: torch.Tensor) -> Law:
        return mixed(self._laws(x))

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return how good `predict` is: R² or, for a censored y, the concordance index.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,) or (n, k), frame, or structured array
            As in `fit`. Of a censored y only the order of rows is known: the share of
            pairs that are predicted in the right order says how well it is met, see
            `hybridflow.metrics.concordance_index`. 0.5 is chance there, 0 for R².
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
            At most 1, which is perfect.
        """
        predicted = self.predict(X)
        outcomes = read_outcomes(y, len(predicted), type(self).__name__)
        if outcomes.lower is None or outcomes.upper is None:
            return float(super().score(X, y, sample_weight))
        known = outcomes.labelled
        weight = read_weights(sample_weight, len(known))[known]
        return concordance_index(
            outcomes.lower[known, 0],
            outcomes.upper[known, 0],
            predicted[known],
            sample_weight=weight,
        )

    def score_joint(self, X: Any, y: Any) -> NDArray[np.float64]:
        """Return log p(x, y) = log p(x) + log p(y | x) of each row, shape (n,), in nats.

        Of a censored y it is the probability of what is known of it.
        """
        density = self.score_samples(X)
        outcomes = read_outcomes(y, len(density), type(self).__name__)
        return np.asarray(density + log_probability(self.predict_distribution(X), outcomes))

    def sample(
        self, n_samples: int = 1, *, y: ArrayLike | None = None, random_state: Any = None
    ) -> tuple[Any, NDArray[np.float64]]:
        """Draw rows with their y from the model.

        Parameters
        ----------
        n_samples : int, default=1
        y : float, or array of shape (k,), optional
            Draw rows from p(x | y) only, by rejection: exactly where y is
            scored as a mass, in the limit of many proposals where as a density.
        random_state : int, RandomState or None

        Returns
        -------
        X : array or frame of shape (n_samples, d)
            In the container, names and types of the training table.
        y : ndarray of shape (n_samples,) or (n_samples, k)
        """
        if y is None:
            x, rng = self._draw(n_samples, random_state)
            law = self._law(x.to(self.models_[0].step.device))
            draws = law.sample(1, np.random.default_rng(rng.randint(2**31 - 1)))
            numbers = np.asarray(draws[:, 0])
        else:
            self._draw(0, random_state)  # checks the arguments
            target = self.blueprint_.target
            assert target is not None
            given, k = read_one(y, target), len(target.names)
            steps = target.steps or (target.step,)
            x = sample_given(
                lambda n, rng: self._draw(n, rng)[0],
                lambda rows: self._law(rows.to(self.models_[0].step.device)).log_prob(
                    np.broadcast_to(given, (len(rows), k)) if k > 1 else given[0]
                ),
                n_samples,
                check_seed(random_state),
                bound=0.0 if min(steps) > 0 else None,
            )
            numbers = np.tile(given, (n_samples, 1)) if k > 1 else np.full(n_samples, given[0])
        return self.schema_.frame(self.schema_.expand(x.numpy())), numbers


def _targets(y: Any, n: int, *, name: str) -> TargetBatch:
    """Read the outcomes of a part of a file."""
    return batch_of_outcomes(read_outcomes(y, n, name))
