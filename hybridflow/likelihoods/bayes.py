"""The head that reads a class-conditional base by Bayes' rule."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.densities.class_conditional import ClassConditional
from hybridflow.errors import ConfigError, InputError
from hybridflow.laws import CategoricalLaw
from hybridflow.likelihoods.base import Head, TargetBatch
from hybridflow.likelihoods.categorical import Categorical
from hybridflow.specs import Target


class Bayes(Head):
    r"""The posterior of the classes under a class-conditional base.

    .. math:: \eta_c = \log \pi_c + \log p(z \mid c), \qquad
        P(y = c \mid z) = \frac{e^{\eta_c}}{\sum_l e^{\eta_l}}

    For two classes eta is the difference of the two, as `Categorical` has it.
    The head has no parameters of its own: its classes are the clusters of the
    density, so that rows without a label move the boundary too. It reads z as
    the base does; a context is not used.

    Parameters
    ----------
    target : Target
        With at least two classes.
    base : ClassConditional
        The base of the same model, with one component or more per class.

    Raises
    ------
    ConfigError
        If the base has not the classes of the target.

    References
    ----------
    .. [1] Semi-Supervised Learning with Normalizing Flows, P. Izmailov, P. Kirichenko,
           M. Finzi and A. G. Wilson, 2020

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import ClassConditional
    >>> from hybridflow.likelihoods import Bayes
    >>> from hybridflow.specs import Target
    >>> target = Target(kind="classification", classes=("no", "yes"))
    >>> head = Bayes(target, ClassConditional(1, classes=2))
    >>> head(torch.zeros(1, 1)).shape
    torch.Size([1, 1])
    """

    def __init__(self, target: Target, base: ClassConditional) -> None:
        super().__init__()
        self.likelihood = Categorical(target)
        if base.classes != len(target.classes):
            raise ConfigError(
                f"head 'bayes': the target has {len(target.classes)} classes, "
                f"but the base {base.classes}"
            )
        # In a tuple, which registers nothing: the model owns the base, and a second entry
        # would write its tensors twice.
        self._of_model = (base,)

    @property
    def base(self) -> ClassConditional:
        """The base that the head reads, which belongs to the model."""
        return self._of_model[0]

    def forward(
        self, z: Tensor, context: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        """Return eta, shape (n, 1) for two classes and (n, classes) for more.

        Raises
        ------
        InputError
            If an offset is given: classes count no exposure.
        """
        if offset is not None:
            raise InputError(
                "an exposure needs a head for counts, and 'bayes' is none: use head='poisson', "
                "or leave the exposure out"
            )
        joint = self.base.class_log_prob(z)
        if self.likelihood.outputs == 1:
            return joint[:, 1:] - joint[:, :1]
        return torch.log_softmax(joint, 1)

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        return self.likelihood.nll(eta, targets)

    def law(self, eta: Tensor) -> CategoricalLaw:
        """Return the class probabilities."""
        return self.likelihood.law(eta)
