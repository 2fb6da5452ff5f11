"""What a member says about rows, by one pass through its flow wherever one is enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from hybridflow.laws import Law
from hybridflow.model import HybridModel
from hybridflow.novelty import Reading


@dataclass(frozen=True)
class Passage:
    """What one member says about n rows.

    Parameters
    ----------
    reading : Reading
        What novelty and density are found from.
    law : Law or None
        Of y; None for a model without a head.
    """

    reading: Reading
    law: Law | None


def passage(model: HybridModel, x: torch.Tensor) -> Passage:
    """Return what `model.log_score`, `model.task_view` and the head say about rows.

    The latent that the head reads is also that of the score, unless cells are noised or
    missing: only then is the score a second, longer pass.

    Parameters
    ----------
    model : HybridModel
    x : Tensor of shape (n, K)
        Rows as the model reads them.

    Returns
    -------
    Passage
    """
    with torch.no_grad():
        numbers, codes = model.layout.split(x)
        missing = numbers.isnan()
        context = model.context(codes)
        standard, outer = model.preprocess(model.complete(numbers, missing)[0], context)
        z, inner = model.flow(standard.to(model.dtype), context)
        if model.noised or bool(missing.any()) or model.event.features == 0:
            score = model.log_score(x)
        else:
            score = model.base.log_prob(z, context).double() + outer + inner.double()
            if model.categories is not None and codes is not None:
                score = score + model.categories.log_prob(codes).double()
            if model.bounded:
                outside = ((numbers < model.low) | (numbers > model.high)).any(1)
                score = torch.where(outside, -math.inf, score)
        law = None
        if model.head is not None:
            eta = model.predictor(z, context, model.layout.offset(x))
            law = model.head.law(eta.double())
    parts = (score, z, standard, outer)
    return Passage(Reading(*(part.double().cpu().numpy() for part in parts)), law)
