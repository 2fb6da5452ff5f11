"""How much a fit may cost: presets of members and steps."""

from __future__ import annotations

from dataclasses import dataclass

from hybridflow.training import TrainingConfig


@dataclass(frozen=True)
class Quality:
    """What a preset stands for.

    Parameters
    ----------
    members : int
        Models on different held-out rows, mixed uniformly.
    training : TrainingConfig
    """

    members: int
    training: TrainingConfig


QUALITIES = {
    "fast": Quality(1, TrainingConfig(steps=600, patience=8)),
    "default": Quality(3, TrainingConfig()),
    "best": Quality(5, TrainingConfig(steps=6000, epochs=600, patience=16)),
}
"""The presets by name; each takes several times as long as the one before."""
