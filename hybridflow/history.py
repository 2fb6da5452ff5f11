"""How a model is trained, and the record of how that went. Plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from hybridflow.config import Choice, Config, Float
from hybridflow.transforms.compose import Memory


class TrainingConfig(Config):
    """How a model is trained.

    Parameters
    ----------
    steps : int, default=2000
        Most optimiser steps.
    epochs : int, default=300
        Most passes over the rows where none are held out to stop early by.
    batch_size : int, default=256
        Most rows per step; a table of fewer than 16 times as many takes a
        sixteenth of its rows, 64 at least. Up to twice as many where the rows are
        no multiple of it, for an epoch uses every row. Smaller tables are used
        whole.
    learning_rate : float, default=3e-3
        Peak of the schedule: linear warm-up, then a half cosine to zero.
    warmup : float, default=0.05
        Share of the steps that warm up.
    weight_decay : float, default=1.0
        Decoupled decay of the matrices per step, times the learning rate, of a run
        of up to 300 steps; a longer run has as much in all.
    average : float, default=0.98
        Share that the moving average of the weights keeps in a step; the average
        is what is evaluated and kept. It is shorter in the first steps; 0 keeps
        the weights as they are.
    settled : float, default=30
        Rows per column from which the flow learns at the full rate. In a
        hybrid of n rows (by weight) and D columns with fewer, its learning rate
        is scaled by (n / D / settled)³, by no less than 0.01. With m labelled
        rows, the gradient of the task with respect to it is scaled by
        (m / D / settled)³, and what the hidden layers of the head add by
        (m / D / settled / 2)², 1 at most.
    clip : float, default=1.0
        Largest norm of the gradient.
    noise : float, optional
        Standard deviation of the Gaussian noise that the density term sees on
        each column in training, in those of the column: what is learned is the
        density of rows blurred so far, which tells the unusual from the usual
        better, and fits the usual worse. The task term and every answer see
        rows as they are. None leaves it to the estimator: 0.1 to 0.4 by the flow
        in `FlowOutlierDetector`, else no noise.
    evaluations : int, default=40
        Evaluations on the held-out rows, evenly spread.
    patience : int, default=12
        Evaluations without a better value after which training stops.
    memory : {"plain", "checkpoint", "reversible"}, default="plain"
        What the flow keeps for the gradient, if it is a composition: all
        activations, the input of each transform, or that of every eighth.
        Less memory for a step that takes up to 1.7 times as long; see
        `hybridflow.transforms.Compose`. Plain leaves the flow as it was built.
    on_interrupt : {"raise", "keep"}, default="raise"
        After Ctrl-C the best weights so far are kept; ``"raise"`` then raises
        KeyboardInterrupt, ``"keep"`` only warns.

    Examples
    --------
    >>> from hybridflow import TrainingConfig
    >>> TrainingConfig(steps=500).learning_rate
    0.003
    """

    steps: Annotated[int, Field(ge=1)] = 2000
    epochs: Annotated[int, Field(ge=1)] = 300
    batch_size: Annotated[int, Field(ge=1), Choice((128, 256, 512, 1024))] = 256
    learning_rate: Annotated[float, Field(gt=0), Float(3e-4, 1e-2, log=True)] = 3e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0), Float(1e-2, 10.0, log=True)] = 1.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.98
    settled: Annotated[float, Field(gt=0), Float(10, 1000, log=True)] = 30.0
    clip: Annotated[float, Field(gt=0)] = 1.0
    noise: Annotated[float, Field(ge=0)] | None = None
    evaluations: Annotated[int, Field(ge=1)] = 40
    patience: Annotated[int, Field(ge=1)] = 12
    memory: Memory = "plain"
    on_interrupt: Literal["raise", "keep"] = "raise"


class Record(Config):
    """One evaluation.

    Parameters
    ----------
    step : int
        Optimiser steps taken so far.
    value : float
        The loss on the held-out rows, or on the training rows where none are
        held out: ``task + likelihood_weight / D * density``.
    task : float or None
        Mean -log p(y | x) in nats, None without a head.
    density : float
        Mean -log p(x) in nats, of tied columns with noise.
    learning_rate : float
        Of the step at which it was taken.

    Examples
    --------
    >>> from hybridflow.training import Record
    >>> Record(step=50, value=2.5, task=1.0, density=5.0, learning_rate=3e-3).model_dump()["step"]
    50
    """

    step: int
    value: float
    task: float | None
    density: float
    learning_rate: float


History = list[Record]


@dataclass
class TrainingState:
    """All that resuming needs; a run that is resumed equals one that was not stopped.

    `hybridflow.checkpoint.capture` adds weights, optimiser and random state to it.

    Parameters
    ----------
    steps : int
        Most optimiser steps of the run.

    Examples
    --------
    >>> from hybridflow.training import TrainingState
    >>> TrainingState(steps=100).step
    0
    """

    steps: int
    step: int = 0
    """Optimiser steps taken so far."""
    factor: float = 1.0
    """What the learning rate was multiplied with after non-finite steps."""
    skipped: int = 0
    """Non-finite steps in a row."""
    restarts: int = 0
    best_value: float = math.inf
    best_step: int = 0
    interrupted: bool = False
    history: History = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    """The best weights so far."""
    average: list[Tensor] = field(default_factory=list)
    """The moving average of the parameters, which is what is evaluated and kept."""
