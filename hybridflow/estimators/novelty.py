"""What estimators answer about novelty: p-values, rejection, abstention, reports."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridflow.batches import Rows
from hybridflow.calibration import Fold
from hybridflow.errors import ConfigError, UncalibratedWarning
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.splits import Positions, Roles
from hybridflow.laws import CategoricalLaw, JointLaw, Law, mixed
from hybridflow.model import HybridModel
from hybridflow.novelty import (
    Novelty,
    NoveltyReport,
    Reading,
    Source,
    conformal_pvalue,
    fit_scores,
    harmonic_mean,
    novelty_share,
    rows_needed,
)
from hybridflow.novelty.calibration import calibrate, fold_of

Floats = NDArray[np.float64]

_MOST = 1000  # reference rows of a member: they rank what calibration rows then make exact
_PART = 2**15  # rows whose latents are held at once
_DRAWS = 16  # values that a report tries in each cell
_QUARTILES = 1.3489795003921634  # between those of a standard normal


class NoveltyEstimator(FlowEstimator):
    """An estimator that says how unusual rows are, calibrated on held-out rows."""

    novelty_: Novelty | None

    def _after_fit(self, rows: Rows, roles: Roles) -> None:
        super()._after_fit(rows, roles)
        used = (rows.weight > 0).cpu().numpy()
        held = [positions[used[positions]] for positions in roles.held[: len(self.models_)]]
        unseen = roles.calibration[used[roles.calibration]]
        enough = all(len(positions) for positions in held)
        source: Source = "calibration" if len(unseen) else "folds" if enough else "training"
        fits, references = [], []
        for model, fold in zip(self.models_, held, strict=True):
            outside = np.union1d(fold, roles.calibration)
            trained = _some(rows, np.setdiff1d(np.flatnonzero(used), outside))
            seen = _read(model, trained.x), _weights(trained)
            reference = seen
            if len(fold):
                some = _some(rows, fold)
                reference = _read(model, some.x), _weights(some)
            # What p-values rest on must not also be what scores are fitted to.
            fits.append(fit_scores(*(reference if source == "calibration" else seen)))
            references.append(reference)
        final = None
        if source == "calibration":
            some = rows[torch.as_tensor(unseen).to(rows.x.device)]
            final = self._readings(some.x), _weights(some)
        self.novelty_ = calibrate(source, fits, references, final)

    def _readings(self, x: torch.Tensor) -> list[Reading]:
        return [_read(model, x) for model in self.models_]

    def _in_parts(self, x: torch.Tensor, answer: Callable[[list[Reading]], Floats]) -> Floats:
        """Return an answer for every row, without the latents of all of them at once."""
        return np.concatenate([answer(self._readings(part)) for part in torch.split(x, _PART)])

    def _novelty(self) -> Novelty:
        if self.novelty_ is None:
            raise ConfigError(
                "this model was saved by a version that did not calibrate novelty: fit it again"
            )
        return self.novelty_

    def novelty_scores(self, X: Any) -> dict[str, NDArray[np.float64]]:
        """Return every score of how unusual each row is: higher is more unusual.

        ``"density"`` is -log p(x) in nats, ``"latent"`` the robust squared distance of
        the latent, ``"typicality"`` the distance of log p(x) from its median,
        ``"background"`` minus the log-ratio to independent columns, ``"disagreement"``,
        with several members and calibration rows, how far members differ. Their
        scales differ; p-values compare them.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        dict of str to ndarray of shape (n,)
        """
        x = self._read(X)
        return self._novelty().scores(self._readings(x))

    def novelty_pvalue(self, X: Any, score: str = "combined") -> NDArray[np.float64]:
        r"""Return how unusual each row is: the share of usual rows that are at least as strange.

        A row that is exchangeable with the held-out rows has :math:`p \le \alpha` with
        a probability of α at most, if there are calibration rows, which no member has
        seen. Smaller tables use the rows that each member was stopped early on, and
        the harmonic mean of a p-value per member: α is then kept closely in practice,
        and guaranteed up to a factor, see `hybridflow.novelty.worst_case`. That is a
        promise about usual rows, none about how many strange ones are found.

        Parameters
        ----------
        X : array-like of shape (n, d)
        score : str, default="combined"
            One of `novelty_scores`, or several of them, combined.

        Returns
        -------
        ndarray of shape (n,)
            Rows of equal rank differ by a millionth at most, so that the strangest
            has the smallest.

        Raises
        ------
        ConfigError
            If there is no such score.

        Warns
        -----
        UncalibratedWarning
            If fewer than 19 rows were held out, so that no p-value reaches 0.05, or
            none, so that the training rows stand in and p-values are too small.

        References
        ----------
        Bates, Candès, Lei, Romano, Sesia: "Testing for Outliers with Conformal
        p-values", 2023.

        Examples
        --------
        >>> import numpy as np
        >>> from hybridflow import FlowDensity, TrainingConfig
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> model = FlowDensity(training=TrainingConfig(steps=50), random_state=0).fit(X)
        >>> (model.novelty_pvalue([[0.0, 0.0], [9.0, -9.0]]) < 0.05).tolist()
        [False, True]
        """
        x = self._read(X)
        novelty = self._novelty()
        novelty.check_name(score)
        _warn_if_few(novelty, 0.05)
        return self._in_parts(x, lambda readings: novelty.pvalue(readings, score))

    def novelty_report(self, X: Any) -> NoveltyReport:
        """Say how unusual rows are by each score, which columns make them so, and what to doubt.

        The contribution of a column is what -log p(x) loses if its cell alone is
        replaced by the most usual of 16 values drawn from the model. This asks
        for 16 D scores a row: pass the few rows that are in question.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        NoveltyReport
            Print it, or take its `to_frame`.

        Examples
        --------
        >>> import numpy as np
        >>> from hybridflow import FlowDensity, TrainingConfig
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> model = FlowDensity(training=TrainingConfig(steps=50), random_state=0).fit(X)
        >>> model.novelty_report([[0.0, 9.0]]).strangest(0, count=1)[0][0]
        'x1'
        """
        x = self._read(X)
        novelty, readings = self._novelty(), self._readings(x)
        return NoveltyReport(
            columns=tuple(self.schema_.columns[i].name for i in self.schema_.kept),
            scores=novelty.scores(readings),
            pvalues={name: novelty.pvalue(readings, name) for name in novelty.names},
            contributions=self._contributions(x),
            source=novelty.source,
            rows=novelty.rows,
        )

    def _contributions(self, x: torch.Tensor) -> Floats | None:
        """Return what -log p(x) loses if a cell is replaced by a more usual one, shape (n, D)."""
        try:
            draws = self._draw(_DRAWS, 0)[0].to(x.device)
        except NotImplementedError:  # a flow without an inverse
            return None
        before = self._log_score(x)
        found = np.zeros(tuple(x.shape))
        for column in range(x.shape[1]):
            changed = x.repeat(_DRAWS, 1)
            changed[:, column] = draws[:, column].repeat_interleave(len(x))
            after = self._log_score(changed).reshape(_DRAWS, len(x)).max(0)
            with np.errstate(invalid="ignore"):
                found[:, column] = np.nan_to_num(np.maximum(after - before, 0.0), nan=0.0)
        return found


class RejectingEstimator(NoveltyEstimator):
    """An estimator that says for which rows its prediction should not be used."""

    rejection_: tuple[Fold, ...]

    @abstractmethod
    def _laws(self, x: torch.Tensor) -> Sequence[Law]:
        """Return the law of each row by each member."""

    def _after_fit(self, rows: Rows, roles: Roles) -> None:
        super()._after_fit(rows, roles)
        self._calibrate(rows, roles)
        novelty = self._novelty()
        if novelty.source == "calibration":
            some = rows[torch.as_tensor(roles.calibration).to(rows.x.device)]
            score = self._rejection(self._laws(some.x), self._log_novelty(some.x))
            self.rejection_ = (fold_of(0, -score, _weights(some)),)
            return
        folds = []
        for member, held in enumerate(roles.held[: len(self.models_)]):
            positions = held if novelty.source == "folds" else np.arange(len(rows))
            some = _some(rows, positions)
            score = self._rejection_by(member, self._laws(some.x), self._readings(some.x))
            folds.append(fold_of(member, -score, _weights(some)))
        self.rejection_ = tuple(folds)

    @abstractmethod
    def _calibrate(self, rows: Rows, roles: Roles) -> None:
        """Set what makes predictions calibrated, by which rejection is judged."""

    def _log_novelty(self, x: torch.Tensor) -> Floats:
        return self._in_parts(x, self._novelty().log_evidence)

    def _rejection_by(
        self, member: int, laws: Sequence[Law], readings: Sequence[Reading]
    ) -> Floats:
        """Return the rejection score of rows by one member alone."""
        evidence = self._novelty().log_evidence_by(member, readings[member])
        return self._rejection([laws[member]], evidence)

    def _rejection(self, laws: Sequence[Law], log_novelty: Floats) -> Floats:
        target = self.blueprint_.target
        assert target is not None
        usual, novel = _losses(self._calibrated(laws), target.scale)
        share = novelty_share(log_novelty)
        return (1 - share) * usual + share * novel

    def _calibrated(self, laws: Sequence[Law]) -> Sequence[Law]:
        """Return the laws whose mixture is what is predicted."""
        return laws

    def rejection_score(self, X: Any) -> NDArray[np.float64]:
        r"""Return how much each prediction is to be doubted: higher is more.

        .. math:: (1 - \nu(x))\, \ell(x) + \nu(x)\, \ell_0

        The loss expected if the row is usual, ℓ, by the model's own law, and that of
        knowing nothing about it, ℓ₀, weighed by the probability ν that the row
        is novel, by its novelty p-value and a prior of 0.02. For classes the loss
        is the probability of a mistake, and ℓ₀ that of a guess; for numbers it is the
        squared spread of y, by its quartiles, in units of its variance in training,
        and ℓ₀ is 1, or ℓ where that is larger.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)

        References
        ----------
        Chow: "On Optimum Recognition Error and Reject Tradeoff", 1970.
        Sellke, Bayarri, Berger: "Calibration of p Values for Testing Precise Null
        Hypotheses", 2001.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from hybridflow import HybridClassifier, TrainingConfig
        >>> X, y = load_iris(return_X_y=True)
        >>> model = HybridClassifier(training=TrainingConfig(steps=100), random_state=0).fit(X, y)
        >>> model.rejection_score(X).shape
        (150,)
        """
        x = self._read(X)
        return self._rejection(self._laws(x), self._log_novelty(x))

    def abstain(self, X: Any, alpha: float = 0.05) -> NDArray[np.bool_]:
        """Return for which rows the prediction should not be used.

        The rejection score of a row is ranked among those of held-out rows, as
        `novelty_pvalue` does, so that of usual rows a share of about `alpha` is
        declined, the most doubtful; of strange ones more.

        Parameters
        ----------
        X : array-like of shape (n, d)
        alpha : float, default=0.05
            Between 0 and 1.

        Returns
        -------
        ndarray of bool of shape (n,)

        Raises
        ------
        ConfigError
            If `alpha` does not lie between 0 and 1.

        Warns
        -----
        UncalibratedWarning
            If there are too few held-out rows: none is declined.
        """
        alpha = check_alpha(alpha)
        x = self._read(X)
        _warn_if_few(self._novelty(), alpha)
        parts = torch.split(x, _PART)
        return np.concatenate(
            [self._declined(self._laws(part), self._readings(part), alpha) for part in parts]
        )

    def _declined(
        self,
        laws: Sequence[Law],
        readings: Sequence[Reading],
        alpha: float,
        evidence: Floats | None = None,
    ) -> NDArray[np.bool_]:
        """Return which rows are declined, given what each member says about them.

        `evidence` is their log-evidence by all members, where it is known.
        """
        novelty = self._novelty()
        if novelty.source == "calibration":
            (fold,) = self.rejection_
            evidence = novelty.log_evidence(readings) if evidence is None else evidence
            score = self._rejection(laws, evidence)
            p = conformal_pvalue(fold, -score)
        else:
            each = [
                np.log(conformal_pvalue(fold, -self._rejection_by(member, laws, readings)))
                for member, fold in enumerate(self.rejection_)
            ]
            p = np.exp(harmonic_mean(each))
        return np.asarray(p <= alpha * (1 + 1e-12))

    def predict_or_abstain(self, X: Any, alpha: float = 0.05) -> np.ma.MaskedArray[Any, Any]:
        """Return the predictions, masked for the rows that `abstain` declines.

        Parameters
        ----------
        X : array-like of shape (n, d)
        alpha : float, default=0.05

        Returns
        -------
        numpy.ma.MaskedArray of shape (n,), or (n, k) for k outputs
        """
        declined = self.abstain(X, alpha)
        predicted = np.asarray(self.predict(X))
        mask = np.broadcast_to(declined.reshape(-1, *[1] * (predicted.ndim - 1)), predicted.shape)
        return np.ma.MaskedArray(predicted, mask=mask.copy())

    @abstractmethod
    def predict(self, X: Any) -> NDArray[Any]:
        """Return the prediction for each row."""


def _read(model: HybridModel, x: torch.Tensor) -> Reading:
    """Return what one member says about rows."""
    with torch.no_grad():
        numbers, _ = model.layout.split(x)
        standard, ladj = model.preprocess(model.complete(numbers, numbers.isnan())[0])
        latent, _ = model.task_view(x)
        log_density = model.log_score(x)
    parts = (log_density, latent, standard, ladj)
    return Reading(*(part.double().cpu().numpy() for part in parts))


def _some(rows: Rows, positions: Positions) -> Rows:
    """Return these rows, or as many of them, evenly spread, as are enough."""
    count = min(len(positions), _MOST)
    some = positions[np.linspace(0, len(positions) - 1, count).astype(np.intp)]
    return rows[torch.as_tensor(some).to(rows.x.device)]


def _weights(rows: Rows) -> Floats:
    return np.asarray(rows.weight.cpu().numpy(), dtype=np.float64)


def _losses(laws: Sequence[Law], scales: Sequence[float]) -> tuple[Floats, Floats]:
    """Return the loss that a mixture expects of its prediction, and that of knowing nothing."""
    joint = [law for law in laws if isinstance(law, JointLaw)]
    if joint:
        each = [_losses([law.marginal(i) for law in joint], [s]) for i, s in enumerate(scales)]
        usual, novel = np.mean(each, axis=0)
        return usual, novel
    chances = [law.probabilities for law in laws if isinstance(law, CategoricalLaw)]
    if chances:
        mean = np.mean(chances, axis=0)
        return 1 - mean.max(1), np.full(len(mean), 1 - 1 / mean.shape[1])
    quartiles = mixed(laws).quantile(np.array([[0.25, 0.75]]))
    spread = (quartiles[:, 1] - quartiles[:, 0]) / _QUARTILES / scales[0]
    usual = np.minimum(spread, 1e100) ** 2
    return usual, np.maximum(usual, 1.0)


def check_alpha(alpha: Any) -> float:
    """Return a level, raising ConfigError unless it lies between 0 and 1."""
    number = isinstance(alpha, int | float | np.number) and not isinstance(alpha, bool)
    if not (number and 0 < alpha < 1):
        raise ConfigError(f"alpha must lie between 0 and 1, both excluded, got {alpha!r}")
    return float(alpha)


def _warn_if_few(novelty: Novelty, alpha: float) -> None:
    held = novelty.rows
    more = (
        "calibration=0.2, in tables of up to 200 distinct rows "
        "calibration=sklearn.model_selection.ShuffleSplit(1, test_size=0.2)"
    )
    if novelty.source == "training":
        message = "no rows were held out: the training rows stand in, and p-values are too small"
    elif held < rows_needed(alpha):
        message = (
            f"alpha={alpha:g} needs at least {rows_needed(alpha)} held-out rows, and there are "
            f"{held:g}: the smallest possible p-value is {1 / (1 + held):.2g}"
        )
    else:
        return
    warnings.warn(f"{message}. To hold out more: {more}", UncalibratedWarning, stacklevel=3)
