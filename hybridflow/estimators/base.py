"""What all estimators share: reading tables, fitting members, scoring, sampling."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted, validate_data

from hybridflow.audit import SMALL, audit, distinct_rows
from hybridflow.batches import Rows
from hybridflow.callbacks import Callback
from hybridflow.config import Config
from hybridflow.errors import ConcurrentFitError, ConfigError, InputError, InputTypeError, closest
from hybridflow.estimators.blueprint import Blueprint
from hybridflow.estimators.columns import check_bounds, declare, on_circles, read_columns
from hybridflow.estimators.matching import check_reach, match_columns
from hybridflow.estimators.members import fit_member
from hybridflow.estimators.parameters import (
    check_count,
    check_device,
    check_dtype,
    check_likelihood_weight,
    check_members,
    check_seed,
)
from hybridflow.estimators.splits import Roles, assign_roles
from hybridflow.estimators.weights import count_rows
from hybridflow.exactness import AUDITED, audit_models
from hybridflow.likelihoods.base import TargetBatch, refuse_censored
from hybridflow.model import HybridModel
from hybridflow.registry import Kind, Registry, default_registry
from hybridflow.specs import Circle, Interval, Positive, Real, Target
from hybridflow.table import (
    Matrix,
    Schema,
    column_names,
    container_of,
    is_frame,
    read_matrix,
)
from hybridflow.training import History, TrainingConfig
from hybridflow.verdict import Audit

_FITTING: set[int] = set()
_FITTING_LOCK = threading.Lock()
_COMPONENTS: tuple[Kind, ...] = ("flow", "base", "head")


class FlowEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Base class of the estimators: a density of the rows, with or without a head."""

    flow: str | Config
    base: str | Config
    likelihood_weight: float
    columns: Mapping[str | int, Real | Positive | Interval | Circle] | None
    training: TrainingConfig | None
    validation: Any
    calibration: Any
    members: int
    device: str
    dtype: str
    random_state: Any
    callbacks: Sequence[Callback]
    registry: Registry | None

    models_: list[HybridModel]
    histories_: list[History]
    audit_: Audit | None
    schema_: Schema
    blueprint_: Blueprint
    n_features_in_: int
    interrupted_: bool

    __metadata_request__inverse_transform = {"Z": UNUSED}  # noqa: RUF012 - as scikit-learn reads it

    # -- parameters ------------------------------------------------------

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``flow__layers=4`` works on a name and on a config.

        Raises
        ------
        ConfigError
            If a parameter is unknown, out of bounds or of the wrong type.
        """
        known = self.get_params(deep=False)
        nested: dict[str, dict[str, Any]] = {}
        for key, value in params.items():
            name, _, rest = key.partition("__")
            if name not in known:
                raise ConfigError(
                    f"invalid parameter {name!r} for {type(self).__name__}; known are "
                    f"{', '.join(known)}{closest(name, known)}"
                )
            if rest:
                nested.setdefault(name, {})[rest] = value
            else:
                setattr(self, name, value)
        for name, changes in nested.items():
            setattr(self, name, self._config(name).replace(**changes))
        return self

    def _config(self, name: str) -> Config:
        """Return the config that a parameter stands for."""
        value = getattr(self, name)
        if name == "training":
            config = TrainingConfig() if value is None else value
            if not isinstance(config, TrainingConfig):
                raise ConfigError(f"training: expected a TrainingConfig, got {value!r}")
            return config
        if name not in _COMPONENTS:
            raise ConfigError(f"{name} has no parameters of its own")
        return self._registry().resolve(name, value)[1]

    def _registry(self) -> Registry:
        return default_registry() if self.registry is None else self.registry

    # -- fitting ---------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse a second fit of the same object at the same time."""
        with _FITTING_LOCK:
            if id(self) in _FITTING:
                raise ConcurrentFitError(
                    f"this {type(self).__name__} is being fitted in another thread; fit a clone: "
                    "sklearn.base.clone(estimator)"
                )
            _FITTING.add(id(self))
        try:
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            with _FITTING_LOCK:
                _FITTING.discard(id(self))

    def _read_training_table(self, X: Any) -> tuple[Matrix, list[str]]:
        """Read X, setting the names and the number of features."""
        values, dtypes = read_matrix(X)
        self._check_columns(X, values, reset=True)
        if len(values) < 2:
            raise InputError(
                f"Found array with 1 sample (shape={values.shape}) while a minimum of 2 is "
                f"required by {type(self).__name__}."
            )
        return values, dtypes

    def _check_columns(self, X: Any, values: Matrix, *, reset: bool) -> None:
        """Set or check the number and the names of the columns, as scikit-learn does."""
        try:
            validate_data(self, X=X if is_frame(X) else values, skip_check_array=True, reset=reset)
        except TypeError as error:
            raise InputTypeError(str(error)) from None
        except ValueError as error:
            raise InputError(str(error)) from None

    def _fit(
        self,
        X: Any,
        values: Matrix,
        dtypes: list[str],
        *,
        head: str | Config | None,
        target: Target | None,
        targets: TargetBatch | None,
        weight: NDArray[np.float64],
        task_weight: NDArray[np.float64],
        codes: NDArray[np.int64] | None,
    ) -> None:
        """Audit the table and fit the members."""
        registry = self._registry()
        training = self._config("training")
        assert isinstance(training, TrainingConfig)
        device, members = check_device(self.device), check_members(self.members)
        rng = check_seed(self.random_state)

        declared = read_columns(self.columns, X, values.shape[1])
        values = on_circles(values, declared)

        used = np.flatnonzero(weight > 0)
        factors = np.divide(task_weight, weight, out=np.zeros_like(weight), where=weight > 0)
        weight = count_rows(weight)
        task_weight = weight * factors
        names = [str(n) for n in column_names(X) or [f"x{i}" for i in range(values.shape[1])]]
        audited = declare(audit(values[used], dtypes, names), values[used], declared)
        check_bounds(values, used, audited)
        schema = Schema(
            columns=audited,
            container=container_of(X),
            named=hasattr(self, "feature_names_in_"),
        )
        blueprint = Blueprint(
            schema=schema,
            target=target,
            flow=self._config("flow"),
            base=registry.resolve("base", self.base)[1],
            head=None if head is None else registry.resolve("head", head)[1],
        )
        blueprint = self._planned(blueprint)
        if targets is not None:
            _check_targets(blueprint, registry, targets)
        small = len(distinct_rows(values[used])) <= SMALL
        roles = assign_roles(
            self.validation,
            self.calibration,
            used,
            len(values),
            members,
            rng,
            codes=codes,
            small=small,
        )
        training_rows = np.setdiff1d(used, roles.calibration)
        rows = Rows(
            torch.as_tensor(values[:, schema.kept]).to(device),
            None if targets is None else targets.to(device),
            torch.as_tensor(weight).to(device),
            torch.as_tensor(task_weight).to(device),
        )
        dtype = check_dtype(self.dtype, small=small)
        weight_of_density = self._likelihood_weight()
        models, histories, interrupted = [], [], False
        for member, positions in enumerate(roles.held):
            plan = blueprint.of(member)
            model, state = fit_member(
                plan,
                registry,
                rows,
                torch.as_tensor(np.setdiff1d(training_rows, positions)),
                torch.as_tensor(positions),
                self._training_for(plan),
                likelihood_weight=weight_of_density,
                seed=int(rng.randint(np.iinfo(np.int32).max)),
                dtype=dtype,
                callbacks=self.callbacks,
                keyed=small,
            )
            models.append(model)
            histories.append(state.history)
            interrupted |= state.interrupted
            if interrupted:
                break
        some = used[np.linspace(0, len(used) - 1, min(len(used), AUDITED)).astype(np.intp)]
        spec, _ = registry.resolve("flow", blueprint.flow)
        found = audit_models(models, rows.x[torch.as_tensor(some).to(device)], spec)
        # Only now: a fit that fails leaves an earlier one as it was.
        self.schema_, self.blueprint_ = schema, blueprint
        self.models_, self.histories_, self.interrupted_ = models, histories, interrupted
        self.audit_ = found
        self._n_features_out = len(schema.kept)
        self._after_fit(rows, roles)
        if self.interrupted_ and training.on_interrupt == "raise":
            raise KeyboardInterrupt

    def _planned(self, blueprint: Blueprint) -> Blueprint:
        """Return what the members are built from, given what the parameters say."""
        return blueprint

    def _training_for(self, blueprint: Blueprint) -> TrainingConfig:
        """Return how one member is trained."""
        training = self._config("training")
        assert isinstance(training, TrainingConfig)
        return training

    def _after_fit(self, rows: Rows, roles: Roles) -> None:
        """Set what an estimator derives from its fitted members and the rows by their roles."""

    def _likelihood_weight(self) -> float:
        return check_likelihood_weight(self.likelihood_weight)

    # -- answers ---------------------------------------------------------

    def _read(self, X: Any) -> torch.Tensor:
        """Read rows to answer for, matching the columns of a frame by name."""
        check_is_fitted(self, "models_")
        if hasattr(self, "feature_names_in_"):
            X = match_columns(X, [str(name) for name in self.feature_names_in_])
        values, _ = read_matrix(X)
        self._check_columns(X, values, reset=False)
        kept = self.schema_.kept
        # Rows that need no change are not copied: they may fill half of the memory.
        used = values if len(kept) == values.shape[1] else np.ascontiguousarray(values[:, kept])
        check_reach(self.models_[0], self.schema_, used)
        return torch.as_tensor(used if used.flags.writeable else used.copy()).to(
            self.models_[0].step.device
        )

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        r"""Return the score of each row: log p(x), averaged over members.

        .. math:: \log \bar p(x) = \log \frac{1}{M} \sum_m p_m(x)

        A tied column whose values lie on a lattice counts as a mass, every
        other as a density; ``schema_`` says which is which. Constant columns
        are left out. Rows outside the support of a column have -inf.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
            Nats, in the units of the data.
        """
        return self._log_score(self._read(X))

    def _log_score(self, x: torch.Tensor) -> NDArray[np.float64]:
        each = self._log_scores(x)
        return np.asarray(np.logaddexp.reduce(each, axis=0) - math.log(len(each)))

    def _log_scores(self, x: torch.Tensor) -> NDArray[np.float64]:
        """Return the score of each row by each member, shape (members, n)."""
        with torch.no_grad():
            each = [model.log_score(x).cpu().numpy() for model in self.models_]
        return np.asarray(each, dtype=np.float64)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the latent z of each row, by the first member.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n, D)
            D columns carry a density; constant ones do not. Circles are
            angles from -pi to pi.
        """
        x = self._read(X)
        with torch.no_grad():
            z, _ = self.models_[0].latent(x)
        return np.asarray(z.cpu().numpy(), dtype=np.float64)

    def inverse_transform(self, Z: Any) -> NDArray[np.float64]:
        """Return the rows whose latent is Z, by the first member.

        Parameters
        ----------
        Z : array-like of shape (n, D)

        Returns
        -------
        ndarray of shape (n, d)
            Constant columns hold their constant. Values are not rounded.
        """
        check_is_fitted(self, "models_")
        if np.ndim(Z) == 2 and np.shape(Z)[1] == 0 == self._n_features_out:
            z = np.empty(np.shape(Z))
        else:
            z, _ = read_matrix(Z)
        if z.shape[1] != self._n_features_out:
            raise InputError(
                f"Z has {z.shape[1]} columns, but the latent has {self._n_features_out}"
            )
        model = self.models_[0]
        with torch.no_grad():
            x = model.data(torch.as_tensor(z).to(model.step.device))
        return self.schema_.expand(x.cpu().numpy())

    def _draw(
        self, n_samples: int, random_state: Any
    ) -> tuple[torch.Tensor, np.random.RandomState]:
        """Draw rows from random members, shape (n, D)."""
        check_is_fitted(self, "models_")
        n_samples = check_count(n_samples, self._n_features_out, _MOST_CELLS)
        rng = check_seed(random_state)
        generator = torch.Generator().manual_seed(int(rng.randint(np.iinfo(np.int32).max)))
        counts = rng.multinomial(n_samples, [1 / len(self.models_)] * len(self.models_))
        with torch.no_grad():
            parts = [
                model.sample(int(count), generator=generator).cpu()
                for model, count in zip(self.models_, counts, strict=True)
            ]
        x = torch.cat(parts)
        return x[torch.as_tensor(rng.permutation(n_samples))], rng

    def audit(self, X: Any) -> Audit:
        """Measure whether the model is the invertible map and the density that it says it is.

        The way there and back, the log-determinant against autograd, values
        that are not finite, samples outside the support, stiffness, and
        whether rows influence each other; of several members the worst.
        ``audit_`` holds the same of some training rows, or None for a model
        saved without it.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        Audit
            Its `check` raises if anything is bad.
        """
        x = self._read(X)
        spec, _ = self._registry().resolve("flow", self.blueprint_.flow)
        return audit_models(self.models_, x, spec)

    # -- files -----------------------------------------------------------

    def save(self, path: str | Path, *, overwrite: bool = True) -> None:
        """Write the fitted model to one file, atomically.

        Parameters
        ----------
        path : str or Path
        overwrite : bool, default=True
            Whether an existing file is replaced; FileExistsError if not.
        """
        from hybridflow.bundle import save

        save(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, *, registry: Registry | None = None) -> Self:
        """Read a fitted model of this class from a file.

        Parameters
        ----------
        path : str or Path
        registry : Registry, optional
            Where component names resolve; the default one if not given.

        Raises
        ------
        ModelFileError
            If the file cannot be trusted, or holds another kind of estimator.
        """
        from hybridflow.bundle import load
        from hybridflow.errors import IncompatibleModelError

        estimator = load(path, registry=registry)
        if not isinstance(estimator, cls):
            raise IncompatibleModelError(
                f"{path} holds a {type(estimator).__name__}, not a {cls.__name__}; "
                "use hybridflow.load(path)"
            )
        return estimator

    @abstractmethod
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the model."""


def _check_targets(blueprint: Blueprint, registry: Registry, targets: TargetBatch) -> None:
    """Let the head say what is wrong with y, before anything is trained."""
    head = blueprint.build(registry, seed=0).head
    if head is not None:
        refuse_censored(head, targets)
        head.check(targets)


_MOST_CELLS = 2**28  # 2 GiB of float64
