"""Completing a trained head: what it finds from all labelled rows at once."""

from __future__ import annotations

import torch

from hybridflow.batches import Rows
from hybridflow.likelihoods.base import Head
from hybridflow.model import HybridModel

_PART = 65_536
"""Rows whose latent is computed at once; bounds memory, not results."""


@torch.no_grad()
def finish_head(model: HybridModel, rows: Rows) -> None:
    """Give the head of a trained model its `finish`, on clean training rows.

    Heads that have none cost nothing.

    Parameters
    ----------
    model : HybridModel
        In evaluation mode.
    rows : Rows
        That it was trained on.
    """
    head, targets = model.head, rows.targets
    if head is None or targets is None or type(head).finish is Head.finish:
        return
    labelled = rows[targets.labelled.nonzero()[:, 0]]
    assert labelled.targets is not None
    batches = []
    for start in range(0, len(labelled), _PART):
        part = slice(start, start + _PART)
        z, context = model.task_view(labelled.x[part])
        batches.append((model.readout(z), context, labelled.targets[part]))
    head.finish(batches, labelled.task_weight)
