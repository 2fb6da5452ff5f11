r"""Training: the loss, and the loop as small named steps.

.. math::
    \mathrm{loss} = \frac{\sum_{labelled} w k_y (-\log p(y \mid z))}{\sum_{labelled} w k_y}
        + \frac{\lambda}{\max(D, 1)} \frac{\sum w (-\log p(x))}{\sum w}

The task term sees clean rows, the density term rows with noise on tied cells.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hybridflow.batches import Batches, BatchSource, Rows, keyed_noise, levels, uniform_noise
from hybridflow.callbacks import Callback
from hybridflow.distributed import current
from hybridflow.errors import ConfigError, InterruptedFitWarning, TrainingDivergedError
from hybridflow.guards import put_off_termination, stop_on_interrupt
from hybridflow.history import History, Record, TrainingConfig, TrainingState
from hybridflow.likelihoods.basis import Dropout, HiddenBasis
from hybridflow.model import HybridModel
from hybridflow.schedule import Schedule
from hybridflow.transforms.base import Transform
from hybridflow.transforms.compose import Compose, Memory

__all__ = ["Clock", "History", "Record", "Trainer", "TrainingConfig", "TrainingState"]

_TINY = 1e-9  # keeps Gaussian noise finite
_DECAYED_STEPS, _DECAYED_EPOCHS = 300, 60  # over either, the decay is what the config says
_TIMED = 10  # steps from one look at the clock to the next
_LEAST_BATCH, _LEAST_BATCHES = 64, 16
_LEAST_SHARE = 0.01  # of the learning rate that a flow beside a head keeps on any table


class Clock:
    """A limit of time, and how much of it is gone.

    Parameters
    ----------
    seconds : float or None
        None for no limit.

    Examples
    --------
    >>> from hybridflow.training import Clock
    >>> Clock(None).share(3) is None
    True
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.start = time.perf_counter()

    def elapsed(self) -> float:
        """Return the seconds since it was made."""
        return time.perf_counter() - self.start

    def share(self, parts: int) -> float | None:
        """Return one of equal parts of what is left, None if there is no limit."""
        if self.seconds is None:
            return None
        return max(self.seconds - self.elapsed(), 0.0) / parts


class Trainer:
    """Trains one hybrid model.

    Parameters
    ----------
    model : HybridModel
        Built and initialised.
    rows : Rows
        To train on.
    held_out : Rows or None
        To stop early on; the training rows if None.
    config : TrainingConfig
    likelihood_weight : float or Schedule
        λ, per dimension. Rows are judged by its last value, also while it moves.
    seed : int
        Of the order of the rows and of the noise.
    callbacks : sequence of Callback
    keyed : bool, default=False
        Use all rows in every step and key the noise on the value of a cell, so
        that a weight equals repeating the row.
    seconds : float, optional
        What training may take: after a few steps the run is planned anew, with as
        many as there is time for.
    source : callable, optional
        From the size of a batch and a generator to where batches come from; by
        default `rows`, of which a source may hold many more.
    save : callable, optional
        Called with the trainer at the start, after each evaluation and at the end,
        between two steps, to keep the run; see `hybridflow.checkpoint.Checkpoint`.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.batches import Rows
    >>> from hybridflow.densities import StudentT
    >>> from hybridflow.model import HybridModel
    >>> from hybridflow.specs import Event
    >>> from hybridflow.training import Trainer, TrainingConfig
    >>> from hybridflow.transforms import Identity, Standardize
    >>> model = HybridModel(
    ...     Event.real(1), Standardize(1), Identity(), StudentT(1), None,
    ...     step=torch.zeros(1), lattice=torch.zeros(1, dtype=torch.bool), origin=torch.zeros(1),
    ... )
    >>> weight = torch.ones(64, dtype=torch.float64)
    >>> rows = Rows(torch.linspace(-2, 2, 64)[:, None].double(), None, weight, weight)
    >>> config = TrainingConfig(steps=10)
    >>> trainer = Trainer(model, rows, None, config, likelihood_weight=1.0, seed=0)
    >>> trainer.run().step
    10
    """

    def __init__(
        self,
        model: HybridModel,
        rows: Rows,
        held_out: Rows | None,
        config: TrainingConfig,
        *,
        likelihood_weight: float | Schedule,
        seed: int,
        callbacks: Sequence[Callback] = (),
        keyed: bool = False,
        seconds: float | None = None,
        source: Callable[[int, torch.Generator], BatchSource] | None = None,
        save: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.model = model
        self.save = save
        self.group = current()
        self.rows = rows
        self.held_out = held_out
        self.config = config
        if not isinstance(likelihood_weight, Schedule):
            likelihood_weight = Schedule.constant(likelihood_weight)
        self.schedule = likelihood_weight
        self.density_scale = self.schedule.end / max(1, model.event.features)
        # A small table has fewer rows than the flow has parameters. There the flow learns
        # slowly. What few labels say reaches the flow weakly, and the hidden layers of the head.
        features = max(1, model.event.features)
        settled = float(rows.weight.sum()) / features / config.settled
        self.share = 1.0 if model.head is None else min(1.0, max(_LEAST_SHARE, settled**5))
        weight = rows.weight if rows.targets is None else rows.weight[rows.targets.labelled]
        labelled = float(weight.sum()) / features / config.settled
        self.pull = min(1.0, labelled**3)
        for module in model.modules():
            if isinstance(module, HiddenBasis):
                module.gain.fill_(min(1.0, (labelled / 2) ** 2))
        self.callbacks = callbacks
        batch_size = min(config.batch_size, max(_LEAST_BATCH, len(rows) // _LEAST_BATCHES))
        if keyed:  # what is left out would differ between a row and its repetition
            for module in model.modules():
                if isinstance(module, Dropout):
                    module.rate = 0.0
        self.full = keyed or len(rows) <= batch_size
        self.levels = levels(model.layout.split(rows.x)[0]) if keyed and model.stochastic else None
        device = rows.x.device
        self.generator = torch.Generator().manual_seed(seed)
        checked = held_out or rows
        self.check_noise = self.draw_noise(
            checked,
            None if self.levels is None else levels(model.layout.split(checked.x)[0]),
            torch.Generator().manual_seed(seed),
        )
        self.keyed = keyed
        self.check_smoothing = self.draw_smoothing(checked, torch.Generator().manual_seed(seed + 1))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        fused = device.type in ("cpu", "cuda") and bool(self.parameters)
        self.batches = Batches(rows, batch_size, self.generator)
        self.source = None if source is None else source(batch_size, self.generator)
        self.clock = Clock(seconds)
        self.state = TrainingState(steps=self.planned_steps())
        self.between = max(1, self.state.steps // config.evaluations)
        self.optimizer = (
            torch.optim.AdamW(self.parameter_groups(), lr=config.learning_rate, fused=fused)
            if self.parameters
            else None
        )

    def run(self) -> TrainingState:
        """Train to the end, leaving the best weights in the model.

        Returns
        -------
        TrainingState

        Raises
        ------
        ConfigError
            If the flow cannot do with as little memory as the config says.
        TrainingDivergedError
            If non-finite values came back after every restart; the model then
            holds the best finite weights.
        """
        if not self.group.alone and not self.model.train().flow.repeatable:
            raise ConfigError(
                "the flow draws at random or learns from its batch in a pass, which ranks that see "
                "parts of a batch cannot share; choose another flow, or fit with one process"
            )
        with less_memory(self.model.flow, self.config.memory):
            return self.train()

    def train(self) -> TrainingState:
        """Take the steps, and put the best weights back whatever ends them."""
        state = self.state
        if not state.best:
            self.keep_best(math.inf)
        try:
            self.call("on_fit_start")
            if state.step == 0 and not state.history:
                self.evaluate()
            with stop_on_interrupt(self.interrupt), self.kept():
                while not self.finished():
                    self.take_step()
                    self.replan()
                    due = state.step % self.between == 0 or state.step == state.steps
                    if due:
                        self.evaluate()  # before any hook, each of which may be a checkpoint
                    self.call("on_step_end")
                    if due:
                        self.call("on_validation")
                        self.keep()
        finally:
            self.model.load_state_dict(state.best)
            self.call("on_fit_end")
        if state.interrupted:
            warnings.warn(
                f"fit interrupted at step {state.step} of {state.steps}; the best weights, of "
                f"step {state.best_step}, are kept",
                InterruptedFitWarning,
                stacklevel=2,
            )
        return state

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the run before and after a block that SIGTERM does not cut short."""
        self.keep()
        with put_off_termination(self.interrupt) if self.save else nullcontext():
            yield
            self.keep()

    def keep(self) -> None:
        """Keep the run in a checkpoint, if there is one, on one rank of those that share it."""
        if self.save is not None and self.group.first:
            self.save(self)

    def planned_steps(self) -> int:
        """Return the most steps of this run."""
        if self.held_out is not None:
            return self.config.steps
        return min(self.config.steps, self.config.epochs * self.steps_per_epoch())

    def steps_per_epoch(self) -> int:
        """Return the steps of one pass over the rows."""
        steps = 1 if self.full else self.batches.count
        if self.source is not None:
            steps = max(1, self.source.total * steps // len(self.rows))
        return steps

    def replan(self) -> None:
        """Plan as many steps as there is time for, from the steps taken so far."""
        state, elapsed = self.state, self.clock.elapsed()
        if self.clock.seconds is None or state.step < _TIMED or state.step % _TIMED:
            return
        # The first steps are slower, and an evaluation takes its time, too.
        possible = math.floor(state.step * self.clock.seconds / max(elapsed, 1e-9))
        steps = max(state.step, min(self.planned_steps(), possible))
        state.steps = int(self.group.of_first(steps))
        self.between = max(1, state.steps // self.config.evaluations)

    def finished(self) -> bool:
        """Return whether to stop: out of steps, of patience, or interrupted."""
        state = self.state
        # While λ moves, the loss at its last value says little about where training goes.
        waited = state.step - max(state.best_step, self.schedule.settled(state.steps))
        early = self.held_out is not None and waited >= self.config.patience * self.between
        early = early and state.skipped == 0  # steps that were not taken try no one's patience
        nothing = self.optimizer is None
        state.interrupted = self.group.any(state.interrupted)
        return state.interrupted or state.step >= state.steps or early or nothing

    @torch.enable_grad()
    def take_step(self) -> None:
        """Draw a batch, take one optimiser step, or skip it if it is not finite."""
        assert self.optimizer is not None
        state = self.state
        batch = self.draw()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        noise = self.draw_noise(batch, self.levels, self.generator)
        smoothing = self.draw_smoothing(batch, self.generator)
        task, density = self.losses(*self.part(batch, noise, smoothing), whole=batch)
        loss = self.step_scale() * density
        if task is not None:
            loss = task + loss
        torch.autograd.backward(loss)
        loss = self.group.combine(loss, self.parameters)
        norm = gradient_norm(self.parameters)
        state.step += 1
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            self.skip_step()
            return
        state.skipped = 0
        nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["share"]
        self.optimizer.step()
        self.update_average()

    def draw(self) -> Rows:
        """Return the rows of the next batch."""
        if self.source is not None:
            return self.source.draw()
        return self.rows if self.full else self.rows[self.batches.draw()]

    def part(
        self, batch: Rows, noise: Tensor | None, smoothing: Tensor | None
    ) -> tuple[Rows, Tensor | None, Tensor | None]:
        """Return the rows of this rank, and the noise on them.

        Where there are fewer rows than ranks, some take a row at weight 0.
        """
        if self.group.alone:
            return batch, noise, smoothing
        mine = self.group.share(len(batch))
        idle, start = len(mine) == 0, int(mine[0]) if len(mine) else 0
        mine = torch.tensor([0]) if idle else mine
        for module in self.model.modules():
            if isinstance(module, Dropout):
                module.window = (start, len(batch))
        rows = batch[mine.to(batch.x.device)]
        if idle:
            rows = replace(rows, weight=0 * rows.weight, task_weight=0 * rows.task_weight)
        mine = mine.to(batch.x.device)
        return (
            rows,
            None if noise is None else noise[mine],
            None if smoothing is None else smoothing[mine],
        )

    @torch.no_grad()
    def update_average(self) -> None:
        """Let the moving average follow the weights; its memory grows with the steps taken."""
        state, memory = self.state, self.config.average
        if memory == 0:
            return
        if not state.average:
            state.average = [parameter.detach().clone() for parameter in self.parameters]
            return
        memory = min(memory, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(state.average, list(self.parameters), 1 - memory)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the model hold the averaged weights in a block."""
        if not self.state.average:
            yield
            return
        held: list[Tensor] = list(self.parameters)
        current = [parameter.detach().clone() for parameter in held]
        with torch.no_grad():
            torch._foreach_copy_(held, self.state.average)
            try:
                yield
            finally:
                torch._foreach_copy_(held, current)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters with the decay and the share of the learning rate of each.

        Matrices of flow and head decay, all else does not.
        """
        flow = {id(p) for p in self.model.flow.parameters()}
        base = {id(p) for p in self.model.base.parameters()}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.parameters:
            matrix = parameter.ndim >= 2 and id(parameter) not in base
            decay = self.decay() if matrix else 0.0
            share = self.share if id(parameter) in flow else 1.0
            groups.setdefault((decay, share), []).append(parameter)
        return [
            {"params": parameters, "weight_decay": decay, "share": share}
            for (decay, share), parameters in groups.items()
        ]

    def decay(self) -> float:
        """Return the decay of a matrix in a step; a run of many passes spreads it over them."""
        steps = max(_DECAYED_STEPS, _DECAYED_EPOCHS * self.steps_per_epoch())
        return self.config.weight_decay * min(1.0, steps / self.state.steps)

    def learning_rate(self) -> float:
        """Return the learning rate of the current step."""
        warm = max(1, round(self.config.warmup * self.state.steps))
        done = self.state.step
        if done < warm:
            share = done / warm
        else:
            share = 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, self.state.steps - warm)))
        return self.config.learning_rate * self.state.factor * share

    def step_scale(self) -> float:
        """Return λ / D of the step to come."""
        weight = self.schedule.at(self.state.step, self.state.steps)
        return weight / max(1, self.model.event.features)

    def losses(
        self,
        rows: Rows,
        noise: Tensor | None,
        smoothing: Tensor | None = None,
        *,
        whole: Rows | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Return the task term (None without labels) and the density term before λ / D.

        Where cells are noised, both views go through the flow as one batch. The
        denominators are those of `whole`, the batch that the rows are a part of.
        """
        model, targets, whole = self.model, rows.targets, whole or rows
        z, context, log_density = model.views(rows.x, noise, smoothing)
        density = -(rows.weight * log_density).sum() / whole.weight.sum()
        if model.head is None or targets is None or whole.targets is None:
            return None, density
        weight = torch.where(targets.labelled, rows.task_weight, 0.0)
        total = torch.where(whole.targets.labelled, whole.task_weight, 0.0).sum()
        if total == 0:
            return None, density
        held = z.detach()
        eta = model.predictor(held + self.pull * (z - held), context, targets.offset)
        return (weight * model.head.nll(eta, targets)).sum() / total, density

    def draw_noise(
        self, rows: Rows, levels: Tensor | None, generator: torch.Generator
    ) -> Tensor | None:
        """Return noise for the density view, keyed on levels if given, None if it needs none."""
        if not self.model.stochastic:
            return None
        if levels is not None:
            return keyed_noise(generator, levels)
        return uniform_noise(generator, len(rows), self.model.event.features, rows.x.device)

    def draw_smoothing(self, rows: Rows, generator: torch.Generator) -> Tensor | None:
        """Return the Gaussian noise of `TrainingConfig.noise`, None if there is none.

        It is keyed as other noise is.
        """
        if not self.config.noise:
            return None
        numbers, _ = self.model.layout.split(rows.x)
        if self.keyed:
            uniform = keyed_noise(generator, levels(numbers))
        else:
            uniform = uniform_noise(generator, len(rows), numbers.shape[1], rows.x.device)
        normal: Tensor = torch.special.ndtri(uniform.clamp(_TINY, 1 - _TINY))
        return self.config.noise * normal

    def skip_step(self) -> None:
        """Leave weights and optimiser as they were; after five in a row go back to the best."""
        state = self.state
        state.skipped += 1
        state.factor *= 0.5
        if state.skipped % 5:
            return
        state.restarts += 1
        self.model.load_state_dict(state.best)
        assert self.optimizer is not None
        self.optimizer.state.clear()
        state.average = []
        if state.restarts > 3:
            raise TrainingDivergedError(
                f"the loss was not finite at step {state.step} after {state.restarts - 1} "
                "restarts; the best finite weights are kept. Lower training__learning_rate "
                f"(now {self.config.learning_rate:g}) or look for extreme values in X"
            )

    @torch.no_grad()
    def evaluate(self) -> None:
        """Record the loss on the held-out rows and keep the weights if they are the best."""
        state = self.state
        rows = self.held_out or self.rows
        self.model.eval()
        with self.averaged():
            task, density = self.losses(rows, self.check_noise, self.check_smoothing)
            # The same decisions on every rank, also where machines round differently.
            self.group.send([density] if task is None else [task, density])
            value = self.density_scale * float(density) + (0.0 if task is None else float(task))
            if not math.isfinite(value):
                return
            state.history.append(
                Record(
                    step=state.step,
                    value=value,
                    task=None if task is None else float(task),
                    density=float(density),
                    learning_rate=self.learning_rate(),
                )
            )
            if value < state.best_value or self.held_out is None:
                self.keep_best(value)

    def keep_best(self, value: float) -> None:
        """Remember the weights as the best so far."""
        self.state.best_value = value
        self.state.best_step = self.state.step
        self.state.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def interrupt(self) -> None:
        """Stop after the current step."""
        self.state.interrupted = True

    def call(self, hook: str) -> None:
        """Call one hook of every callback, on one rank of those that train together."""
        for callback in self.callbacks if self.group.first else ():
            getattr(callback, hook)(self.state)


@contextmanager
def less_memory(flow: Transform, memory: Memory) -> Iterator[None]:
    """Let a flow keep less for the gradient in a block; ``"plain"`` leaves it as it is.

    Raises
    ------
    ConfigError
        If it is not a composition, or has a part that cannot be rebuilt.
    """
    if memory == "plain" or not any(p.requires_grad for p in flow.parameters()):
        yield
        return
    if not isinstance(flow, Compose):
        raise ConfigError(
            f"training__memory={memory!r} is for flows that are a Compose of transforms, and this "
            f"one is of type {type(flow).__name__}; use training__memory='plain'"
        )
    before = flow.memory
    flow.memory = memory
    try:
        yield
    finally:
        flow.memory = before


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the norm of the gradient of all parameters together.

    Where its square is too large for the dtype, it is taken in float64: such a
    gradient is still one to clip.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    return norm if norm.isfinite() else nn.utils.get_total_norm([g.double() for g in gradients])
