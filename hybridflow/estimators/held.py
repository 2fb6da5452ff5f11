"""Held-out rows, with the members that may be asked about them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from hybridflow.batches import Rows
from hybridflow.estimators.splits import Positions, Roles


def held_out(
    rows: Rows, roles: Roles, members: int, most: int
) -> Iterator[tuple[tuple[int, ...], Rows]]:
    """Yield labelled rows with the members that were not trained on them.

    Parameters
    ----------
    rows : Rows
        All rows.
    roles : Roles
    members : int
        How many were fitted.
    most : int
        How many rows are enough, over all members; they are spread evenly.
    """
    assert rows.targets is not None
    labelled = (rows.targets.labelled & (rows.weight > 0)).cpu().numpy()
    groups = [(held, positions[labelled[positions]]) for held, positions in _groups(roles, members)]
    total = sum(len(positions) for _, positions in groups)
    for held, positions in groups:
        count = min(len(positions), -(-most * len(positions) // max(1, total)))
        some = positions[np.linspace(0, len(positions) - 1, count).astype(np.intp)]
        if len(some):
            yield held, rows[torch.as_tensor(some).to(rows.x.device)]


def _groups(roles: Roles, members: int) -> list[tuple[tuple[int, ...], Positions]]:
    """Return which rows were held out by exactly which members."""
    if roles.shared:
        return [(tuple(range(members)), roles.calibration)]
    held = roles.held[:members]  # an interrupted fit has fewer members
    positions = np.unique(np.concatenate(held))
    inside = np.stack([np.isin(positions, each) for each in held], 1)
    patterns, group = np.unique(inside, axis=0, return_inverse=True)
    return [
        (tuple(np.flatnonzero(pattern).tolist()), positions[group == i])
        for i, pattern in enumerate(patterns)
    ]
