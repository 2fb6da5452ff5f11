"""What all estimators share: reading tables, fitting members, scoring, sampling."""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted, validate_data

from hybridflow.audit import SMALL, audit, count_distinct
from hybridflow.batches import Rows
from hybridflow.callbacks import Callback, around, everywhere
from hybridflow.config import Config
from hybridflow.errors import ConcurrentFitError, ConfigError, InputError, InputTypeError, closest
from hybridflow.estimators.blueprint import Blueprint
from hybridflow.estimators.columns import (
    Declared,
    check_bounds,
    declare,
    on_circles,
    read_columns,
)
from hybridflow.estimators.crew import Common, Share, fit_members
from hybridflow.estimators.exposure import check_exposure, with_exposure
from hybridflow.estimators.matching import (
    as_numbers,
    check_reach,
    check_unseen,
    match_columns,
)
from hybridflow.estimators.parameters import (
    check_checkpoint,
    check_choice,
    check_count,
    check_device,
    check_dtype,
    check_jobs,
    check_likelihood_weight,
    check_members,
    check_seed,
    check_time,
)
from hybridflow.estimators.quality import QUALITIES, Quality
from hybridflow.estimators.splits import Roles, assign_roles
from hybridflow.estimators.streaming import (
    Given,
    ReadTargets,
    Source,
    Stream,
    check_share,
    class_factors_of,
    given,
)
from hybridflow.estimators.weights import count_rows
from hybridflow.exactness import AUDITED, audit_models
from hybridflow.likelihoods.base import TargetBatch, refuse_censored
from hybridflow.model import HybridModel
from hybridflow.registry import Kind, Registry, default_registry
from hybridflow.schedule import Schedule
from hybridflow.schema import Schema
from hybridflow.specs import Categorical, Target
from hybridflow.table import (
    Matrix,
    Table,
    container_of,
    is_frame,
    names_of,
    read_matrix,
    read_table,
    refuse_missing,
)
from hybridflow.training import Clock, History, TrainingConfig
from hybridflow.verdict import Audit

_FITTING: set[int] = set()
_FITTING_LOCK = threading.Lock()
_COMPONENTS: tuple[Kind, ...] = ("flow", "base", "head")


class FlowEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Base class of the estimators: a density of the rows, with or without a head."""

    flow: str | Config
    base: str | Config
    likelihood_weight: float | Schedule
    columns: Mapping[str | int, Declared] | None
    missing: str
    unknown: str
    training: TrainingConfig | None
    validation: Any
    calibration: Any
    quality: str
    time_limit: float | None
    members: int | None
    n_jobs: int | None
    device: str
    dtype: str
    random_state: Any
    checkpoint: str | os.PathLike[str] | None
    callbacks: Sequence[Callback]
    registry: Registry | None

    _spared_from: ClassVar[int] = SMALL + 1
    """Distinct rows from which on shares of them are held out."""

    models_: list[HybridModel]
    histories_: list[History]
    audit_: Audit | None
    schema_: Schema
    blueprint_: Blueprint
    n_features_in_: int
    interrupted_: bool

    __metadata_request__inverse_transform = {"Z": UNUSED, "context": UNUSED}  # noqa: RUF012 - as scikit-learn reads it

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
            config = self._quality().training if value is None else value
            if not isinstance(config, TrainingConfig):
                raise ConfigError(f"training: expected a TrainingConfig, got {value!r}")
            return config
        if name == "likelihood_weight" and hasattr(self, name):
            weight = check_likelihood_weight(value)
            return weight if isinstance(weight, Schedule) else Schedule.constant(weight)
        if name not in _COMPONENTS:
            raise ConfigError(f"{name} has no parameters of its own")
        return self._registry().resolve(name, value)[1]

    def _quality(self) -> Quality:
        check_choice("quality", self.quality, tuple(QUALITIES))
        return QUALITIES[self.quality]

    def _registry(self) -> Registry:
        return default_registry() if self.registry is None else self.registry

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "auto"
        tags.input_tags.categorical = True
        return tags

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
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                around(self, self._called()),
            ):
                yield
        finally:
            with _FITTING_LOCK:
                _FITTING.discard(id(self))

    def _given(self, X: Any, y: Any, sample_weight: Any, *, classes: bool = False) -> Given:
        """Return what `fit` was given, of a larger file a sample."""
        return given(X, y, sample_weight, lambda: check_seed(self.random_state), classes=classes)

    def _called(self) -> tuple[Callback, ...]:
        """Return the callbacks of a fit."""
        return *everywhere(), *self.callbacks

    def _read_training_table(self, X: Any) -> Table:
        """Read X, setting the names and the number of features."""
        check_choice("missing", self.missing, ("auto", "error"))
        check_choice("unknown", self.unknown, ("other", "error"))
        table = read_table(X, declared=self._declared_levels(X))
        self._check_columns(X, table.values, reset=True)
        if self.missing == "error":
            refuse_missing(table.values, [str(n) for n in names_of(X, table.values.shape[1])])
        if len(table) < 2:
            raise InputError(
                f"Found array with 1 sample (shape={table.values.shape}) while a minimum of 2 is "
                f"required by {type(self).__name__}."
            )
        return table

    def _declared_levels(self, X: Any) -> list[int]:
        """Return the positions of the columns that are declared to be categorical."""
        given = self.columns if isinstance(self.columns, Mapping) else {}
        if not any(isinstance(support, Categorical) for support in given.values()):
            return []
        width = len(X.columns) if is_frame(X) else np.asarray(X, dtype=object).shape[-1]
        declared = read_columns(given, X, width)
        return [j for j, support in declared.items() if isinstance(support, Categorical)]

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
        table: Table,
        *,
        head: str | Config | None,
        target: Target | None,
        targets: TargetBatch | None,
        weight: NDArray[np.float64],
        task_weight: NDArray[np.float64],
        codes: NDArray[np.int64] | None,
        source: Source | None = None,
        read_targets: ReadTargets | None = None,
    ) -> None:
        """Audit the table and fit the members.

        Of a file (`source`) the table is a sample: batches come from all of it.
        """
        registry = self._registry()
        if source is not None:
            check_share(self.validation, "validation")
            check_share(self.calibration, "calibration")
        training = self._config("training")
        assert isinstance(training, TrainingConfig)
        device, time_limit = check_device(self.device), check_time(self.time_limit)
        n_jobs = check_jobs(self.n_jobs)
        folder = check_checkpoint(self.checkpoint, self.random_state, streamed=source is not None)
        members = check_members(self._quality().members if self.members is None else self.members)
        rng = check_seed(self.random_state)

        names = [str(name) for name in names_of(X, table.values.shape[1])]
        declared = read_columns(self.columns, X, len(names))
        table = replace(table, values=on_circles(table.values, declared))
        values = table.values

        used = np.flatnonzero(weight > 0)
        factors = np.divide(task_weight, weight, out=np.zeros_like(weight), where=weight > 0)
        raw, weight = weight, count_rows(weight)
        task_weight = weight * factors
        levels = [j for j, support in declared.items() if isinstance(support, Categorical)]
        audited = declare(audit(table, used, names, declared=levels), values[used], declared)
        check_bounds(values, used, audited)
        head_config = None if head is None else registry.resolve("head", head)[1]
        schema = Schema(
            columns=with_exposure(audited, values, head_config),
            container=container_of(X),
            named=hasattr(self, "feature_names_in_"),
        )
        blueprint = Blueprint(
            schema=schema,
            target=target,
            flow=self._config("flow"),
            base=registry.resolve("base", self.base)[1],
            head=head_config,
        )
        blueprint = self._planned(blueprint)
        encoded = schema.encode(table)
        x = torch.as_tensor(encoded if encoded.flags.writeable else encoded.copy())
        if targets is not None:
            targets = replace(targets, offset=schema.layout.offset(x))
            _check_targets(blueprint, registry, targets)
        distinct = count_distinct(table, used)
        small = distinct <= SMALL and source is None  # a larger file is never trained on whole
        roles = assign_roles(
            self.validation,
            self.calibration,
            used,
            len(values),
            members,
            rng,
            codes=codes,
            small=small and distinct < self._spared_from,
        )
        learned = np.setdiff1d(used, roles.calibration) if roles.shared else used
        rows = Rows(
            x,
            targets,
            torch.as_tensor(weight),
            torch.as_tensor(task_weight),
        ).to(device)
        dtype = check_dtype(self.dtype, small=small)
        stream = None
        if source is not None:
            stream = Stream(
                source,
                schema,
                declared,
                self.missing == "error",
                read_targets,
                None if codes is None else class_factors_of(codes, factors),
                scale=float(weight[used[0]] / raw[used[0]]),
            )
        shares = []
        for member, positions in enumerate(roles.held):
            plan = blueprint.of(member)
            shares.append(
                Share(
                    plan,
                    torch.as_tensor(np.setdiff1d(learned, positions)),
                    torch.as_tensor(positions),
                    self._training_for(plan),
                    seed=int(rng.randint(np.iinfo(np.int32).max)),
                    unseen=(
                        None
                        if source is None
                        else source.positions[np.union1d(positions, roles.calibration)]
                    ),
                    checkpoint=None if folder is None else folder / f"member-{member}.safetensors",
                )
            )
        crew = fit_members(
            shares,
            Common(rows, self._likelihood_weight(), dtype, keyed=small, stream=stream),
            registry,
            callbacks=self._called(),
            clock=Clock(time_limit),
            n_jobs=n_jobs,
        )
        models = crew.models
        some = used[np.linspace(0, len(used) - 1, min(len(used), AUDITED)).astype(np.intp)]
        spec, _ = registry.resolve("flow", blueprint.flow)
        found = audit_models(models, rows.x[torch.as_tensor(some).to(device)], spec)
        # Only now: a fit that fails leaves an earlier one as it was.
        self.schema_, self.blueprint_ = schema, blueprint
        self.models_, self.histories_ = models, crew.histories
        self.interrupted_ = crew.interrupted
        self.audit_ = found
        self._n_features_out = len(schema.numbers)
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

    def _likelihood_weight(self) -> float | Schedule:
        return check_likelihood_weight(self.likelihood_weight)

    # -- answers ---------------------------------------------------------

    def _read(self, X: Any) -> torch.Tensor:
        """Read rows to answer for, matching the columns of a frame by name."""
        check_is_fitted(self, "models_")
        if isinstance(X, Table):
            return self._encoded(X)
        if hasattr(self, "feature_names_in_"):
            X = match_columns(X, [str(name) for name in self.feature_names_in_])
        schema = self.schema_
        levels = [j for j, column in enumerate(schema.columns) if column.levels]
        table = read_table(X, declared=levels)
        self._check_columns(X, table.values, reset=False)
        return self._encoded(as_numbers(table, schema))

    def _encoded(self, table: Table) -> torch.Tensor:
        """Return a table that was read as rows of the model, once its cells are checked."""
        schema = self.schema_
        x = schema.encode(table)
        check_unseen(table, x, schema, missing=self.missing, unknown=self.unknown)
        check_exposure(schema, x)
        check_reach(self.models_[0], schema, x)
        return torch.as_tensor(x if x.flags.writeable else x.copy()).to(self.models_[0].step.device)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        r"""Return the score of each row: log p(x), averaged over members.

        .. math:: \log \bar p(x) = \log \frac{1}{M} \sum_m p_m(x)

        A categorical column, a missing flag, and a tied column whose values
        lie on a lattice count as masses, every other column as a density;
        ``print(schema_.summary())`` says which is which. Constant columns are
        left out. A level never seen has the mass of all such levels together.
        Where cells are missing, or tied, the score is an average over 32 draws,
        in expectation a lower bound of the logarithm. Rows outside the support
        of a column have -inf.

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
        if len(each) == 1:
            return np.asarray(each[0])
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
            z, _ = self.models_[0].task_view(x)
        return np.asarray(z.cpu().numpy(), dtype=np.float64)

    def inverse_transform(self, Z: Any, context: Any = None) -> Any:
        """Return the rows whose latent is Z, by the first member.

        Parameters
        ----------
        Z : array-like of shape (n, D)
        context : array-like of shape (n, d), optional
            Rows whose levels and missing cells these have; needed if there are
            categorical columns or columns with missing cells.

        Returns
        -------
        ndarray of shape (n, d), or frame
            A frame, or an array of objects, where there are levels. Constant
            columns hold their constant. Values are not rounded.
        """
        check_is_fitted(self, "models_")
        if np.ndim(Z) == 2 and np.shape(Z)[1] == 0 == self._n_features_out:
            z = np.empty(np.shape(Z))
        else:
            z = read_matrix(Z)
        if z.shape[1] != self._n_features_out:
            raise InputError(
                f"Z has {z.shape[1]} columns, but the latent has {self._n_features_out}"
            )
        model = self.models_[0]
        device = model.step.device
        given = None
        if model.categories is not None:
            if context is None:
                raise InputError(
                    "context: the rows have levels or missing cells that Z does not tell; pass "
                    "the rows that it came from: inverse_transform(Z, context=X)"
                )
            given = self._read(context)
            if len(given) != len(z):
                raise InputError(f"context has {len(given)} rows, but Z has {len(z)}")
        with torch.no_grad():
            codes = None if given is None else model.layout.split(given)[1]
            numbers = model.data(torch.as_tensor(z).to(device), model.context(codes))
            x = model.layout.join(numbers, codes).cpu().numpy()
        values = self.schema_.expand(x)
        return values if model.categories is None else self.schema_.frame(values)

    def _draw(
        self, n_samples: int, random_state: Any
    ) -> tuple[torch.Tensor, np.random.RandomState]:
        """Draw rows from random members, shape (n, K)."""
        check_is_fitted(self, "models_")
        n_samples = check_count(n_samples, len(self.schema_.kept), _MOST_CELLS)
        rng = check_seed(random_state)
        generator = torch.Generator().manual_seed(int(rng.randint(np.iinfo(np.int32).max)))
        counts = rng.multinomial(n_samples, [1 / len(self.models_)] * len(self.models_))
        with torch.no_grad():
            parts = [
                model.sample(int(count), generator=generator).cpu()
                for model, count in zip(self.models_, counts, strict=True)
            ]
        x = torch.as_tensor(self.schema_.within_seen(torch.cat(parts).numpy()))
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
