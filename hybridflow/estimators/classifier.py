"""HybridClassifier: labels, their probabilities, and the density of the rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from hybridflow.calibration import tempered
from hybridflow.callbacks import Callback
from hybridflow.config import Config
from hybridflow.errors import ConfigError, InputError
from hybridflow.estimators.answers import SetEstimator
from hybridflow.estimators.columns import Declared
from hybridflow.estimators.indicators import (
    indicator_target,
    is_table,
    log_probabilities,
    probabilities,
    read_indicators,
)
from hybridflow.estimators.outcomes import batch_of_outcomes, log_probability, read_one
from hybridflow.estimators.parameters import check_seed
from hybridflow.estimators.sampling import sample_given
from hybridflow.estimators.streaming import Given
from hybridflow.estimators.targets import (
    batch_of_labels,
    classification_target,
    name_of,
    read_labels,
    warn_if_reordered,
)
from hybridflow.estimators.weights import class_factors, read_weights
from hybridflow.laws import CategoricalLaw, JointLaw, mixed
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.registry import Registry
from hybridflow.schedule import Schedule
from hybridflow.table import Table
from hybridflow.training import TrainingConfig


class HybridClassifier(ClassifierMixin, SetEstimator):
    r"""A classifier that knows the density of its rows.

    A flow turns a row into a latent z with an exact density; a generalized
    linear head on z gives the class probabilities. Both are trained together:

    .. math::
        \mathrm{loss} = \overline{-\log p(y \mid z)} + \frac{\lambda}{D} \overline{-\log p(x)}

    Parameters
    ----------
    flow : str or Config, default="spline-coupling"
        Name in the registry, or a config.
    base : str or Config, default="normal"
        Distribution of the latent.
    head : str or Config, default="categorical"
        What turns the latent into a law for y.
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
        Rows held out for early stopping: a share of every class, the first
        split of a splitter, or positions. Tables of up to 200 distinct rows
        hold out no share.
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
    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the task term.
    unlabeled : object, default=None
        A value of y that marks unlabelled rows, besides None and NaN.
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
    classes_ : ndarray of shape (k,)
    n_labeled_ : int
        Rows with a label.
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
    >>> from sklearn.datasets import load_iris
    >>> from hybridflow import HybridClassifier, TrainingConfig
    >>> X, y = load_iris(return_X_y=True)
    >>> model = HybridClassifier(training=TrainingConfig(steps=100), random_state=0).fit(X, y)
    >>> model.predict(X[:2]).shape, model.predict_proba(X[:2]).shape, model.score_samples(X).shape
    ((2,), (2, 3), (150,))
    """

    classes_: NDArray[Any]
    n_labeled_: int

    def __init__(
        self,
        flow: str | Config = "spline-coupling",
        base: str | Config = "normal",
        head: str | Config = "categorical",
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
        class_weight: Mapping[Any, float] | str | None = None,
        unlabeled: Any = None,
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
        self.class_weight = class_weight
        self.unlabeled = unlabeled
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.registry = registry

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            several = "multi-label" in self._registry().resolve("head", self.head)[0].tasks
        except ConfigError:  # a head that does not exist is told in `fit`
            several = False
        tags.classifier_tags.multi_label = several
        tags.target_tags.multi_output = several
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | str | None = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n, d), or ParquetTable
            Of a `hybridflow.ParquetTable`, other arguments are names of its columns.
        y : array-like of shape (n,) or (n, k)
            Labels; rows where it is None or NaN train the density alone. With
            ``head="multi-label"``, a column of 0 and 1 for each of k labels.
        sample_weight : array-like of shape (n,), optional
            Weight of each row, in both terms of the loss.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If X, y or the weights cannot be used.
        ConfigError
            If a parameter cannot be used.
        TrainingDivergedError
            If training met non-finite values again and again.
        """
        with self._alone():
            data = self._given(X, y, sample_weight, classes=True)
            X, y = data.X, data.y
            table = self._read_training_table(X)
            if is_table(y):
                return self._fit_several(data, table)
            labels = read_labels(y, len(table), self.unlabeled, type(self).__name__)
            warn_if_reordered(X, y)
            weight = read_weights(data.sample_weight, len(table))
            present = np.bincount(labels.codes, weight * labels.labelled, len(labels.classes)) > 0
            if present.sum() < 2:
                raise InputError(
                    f"{type(self).__name__} needs at least two classes, but only one class has "
                    f"rows (of positive weight): {labels.classes[present].tolist()}; for a "
                    "density alone use FlowDensity"
                )
            self.classes_ = labels.classes
            self.n_labeled_ = int(labels.labelled.sum())
            self._fit(
                X,
                table,
                head=self.head,
                target=classification_target(labels).replace(names=(name_of(y),)),
                targets=batch_of_labels(labels),
                weight=weight,
                task_weight=weight * class_factors(self.class_weight, labels, weight),
                codes=np.where(labels.labelled, labels.codes, -1),
                source=data.source,
                read_targets=partial(
                    _targets,
                    unlabeled=self.unlabeled,
                    name=type(self).__name__,
                    classes=labels.classes.tolist(),
                ),
            )
        return self

    def _fit_several(self, data: Given, table: Table) -> Self:
        """Fit on several labels per row."""
        X, y = data.X, data.y
        indicators = read_indicators(y, len(table), self.class_weight, type(self).__name__)
        spec, _ = self._registry().resolve("head", self.head)
        if "multi-label" not in spec.tasks:
            raise ConfigError(
                f"y has {len(indicators.names)} columns of 0 and 1, which are several labels per "
                f"row, and head {spec.name!r} knows one: use head='multi-label'"
            )
        warn_if_reordered(X, y)
        weight = read_weights(data.sample_weight, len(table))
        if not (indicators.labelled & (weight > 0)).any():
            raise InputError("no labelled row has a positive sample_weight")
        self.classes_ = np.arange(len(indicators.names))
        self.n_labeled_ = int(indicators.labelled.sum())
        self._fit(
            X,
            table,
            head=self.head,
            target=indicator_target(indicators),
            targets=batch_of_outcomes(indicators),
            weight=weight,
            task_weight=weight,
            codes=None,
            source=data.source,
            read_targets=partial(
                _indicators, class_weight=self.class_weight, name=type(self).__name__
            ),
        )
        return self

    @property
    def _has_several(self) -> bool:
        """Whether a row may have several labels."""
        target = self.blueprint_.target
        return target is not None and target.kind == "multi-label"

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each row, shape (n,).

        Of several labels per row, 1 for those more probable than not, shape (n, k).
        """
        chances = self.predict_proba(X)
        if self._has_several:
            return np.asarray(chances > 0.5, dtype=np.int64)
        return np.asarray(self.classes_[chances.argmax(axis=1)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the class probabilities, shape (n, k), columns as in ``classes_``.

        Of several labels per row, the probability of each; rows need not sum to 1.
        """
        return self._probabilities(self._read(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of the class probabilities, shape (n, k)."""
        return self._log_probabilities(self._read(X))

    def _laws(self, x: torch.Tensor) -> list[CategoricalLaw | JointLaw]:
        laws: list[CategoricalLaw | JointLaw] = []
        with torch.no_grad():
            for model in self.models_:
                assert model.head is not None
                law = model.head.law(model.eta(x))
                assert isinstance(law, CategoricalLaw | JointLaw)
                laws.append(law)
        return laws

    def _probabilities(self, x: torch.Tensor) -> NDArray[np.float64]:
        return self._probabilities_of(self._laws(x))

    def _probabilities_of(self, laws: Sequence[CategoricalLaw | JointLaw]) -> NDArray[np.float64]:
        """Return the probabilities of rows, given their laws by each member."""
        if self.temperature_ != 1:
            return np.exp(self._log_probabilities_of(laws))
        return np.asarray(np.mean([probabilities(law) for law in laws], axis=0))

    def _log_probabilities(self, x: torch.Tensor) -> NDArray[np.float64]:
        return self._log_probabilities_of(self._laws(x))

    def _log_probabilities_of(
        self, laws: Sequence[CategoricalLaw | JointLaw]
    ) -> NDArray[np.float64]:
        """Return the logarithm of the mean over members, also where that itself underflows."""
        logs = [log_probabilities(law) for law in laws]
        mean = np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(len(logs)))
        return tempered(mean, self.temperature_)

    def score_joint(self, X: Any, y: Any) -> NDArray[np.float64]:
        """Return log p(x, y) = log p(x) + log p(y | x) of each row, shape (n,), in nats.

        Raises
        ------
        InputError
            If y holds a label that was not seen in training.
        """
        density = self.score_samples(X)
        if self._has_several:
            indicators = read_indicators(y, len(density), None, type(self).__name__)
            return np.asarray(
                density + log_probability(mixed(self._laws(self._read(X))), indicators)
            )
        labels = read_labels(y, len(density), None, type(self).__name__)
        known = self.classes_.tolist()
        unknown = [label for label in labels.classes.tolist() if label not in known]
        if unknown:
            raise InputError(f"y holds labels unseen in training: {unknown[:5]}; known are {known}")
        if not labels.labelled.all():
            row = int((~labels.labelled).argmax())
            raise InputError(f"Input y contains NaN, first at row {row}; every row needs a label")
        codes = np.array([known.index(label) for label in labels.classes.tolist()])[labels.codes]
        return np.asarray(density + self.predict_log_proba(X)[np.arange(len(codes)), codes])

    def sample(
        self, n_samples: int = 1, *, y: Any = None, random_state: Any = None
    ) -> tuple[Any, NDArray[Any]]:
        """Draw rows with their labels from the model.

        Parameters
        ----------
        n_samples : int, default=1
        y : label, or array of shape (k,) of 0 and 1, optional
            Draw rows of this label only, from p(x | y), exactly, by rejection.
        random_state : int, RandomState or None

        Returns
        -------
        X : array or frame of shape (n_samples, d)
            In the container, names and types of the training table.
        y : ndarray of shape (n_samples,) or (n_samples, k)
        """
        check_is_fitted(self, "models_")
        if self._has_several:
            return self._sample_several(n_samples, y, random_state)
        if y is None:
            x, rng = self._draw(n_samples, random_state)
            edges = self._probabilities(x.to(self.models_[0].step.device)).cumsum(axis=1)
            codes = (edges < rng.random((n_samples, 1)) * edges[:, -1:]).sum(axis=1)
        else:
            self._draw(0, random_state)  # checks the arguments
            known = self.classes_.tolist()
            if y not in known:
                raise InputError(f"y={y!r} is not a class of the model; known are {known}")
            code, device = known.index(y), self.models_[0].step.device
            x = sample_given(
                lambda n, rng: self._draw(n, rng)[0],
                lambda rows: self._log_probabilities(rows.to(device))[:, code],
                n_samples,
                check_seed(random_state),
                bound=0.0,
            )
            codes = np.full(n_samples, code)
        values = self.schema_.expand(x.numpy())
        return self.schema_.frame(values), np.asarray(self.classes_[codes])

    def _sample_several(
        self, n_samples: int, y: Any, random_state: Any
    ) -> tuple[Any, NDArray[np.int64]]:
        """Draw rows with their several labels."""
        device = self.models_[0].step.device
        if y is None:
            x, rng = self._draw(n_samples, random_state)
            law = mixed(self._laws(x.to(device)))
            draws = law.sample(1, np.random.default_rng(rng.randint(2**31 - 1)))[:, 0]
        else:
            self._draw(0, random_state)  # checks the arguments
            target = self.blueprint_.target
            assert target is not None
            given = read_one(y, target)
            x = sample_given(
                lambda n, rng: self._draw(n, rng)[0],
                lambda rows: mixed(self._laws(rows.to(device))).log_prob(
                    np.broadcast_to(given, (len(rows), len(given)))
                ),
                n_samples,
                check_seed(random_state),
                bound=0.0,
            )
            draws = np.tile(given, (n_samples, 1))
        return self.schema_.frame(self.schema_.expand(x.numpy())), draws.astype(np.int64)


def _targets(y: Any, n: int, *, unlabeled: Any, name: str, classes: list[Any]) -> TargetBatch:
    """Read labels of a part of a file, which may be none but those known."""
    labels = read_labels(y, n, unlabeled, name)
    new = [label for label in labels.classes.tolist() if label not in classes]
    if new:
        raise InputError(
            f"y holds {new[0]!r}, which neither the sample of the file nor the first thousand "
            "labels held; labels are few: for numbers use HybridRegressor"
        )
    return batch_of_labels(labels)


def _indicators(y: Any, n: int, *, class_weight: Any, name: str) -> TargetBatch:
    """Read several labels per row of a part of a file."""
    return batch_of_outcomes(read_indicators(y, n, class_weight, name))
