"""Held-out likelihood of each family beside zuko's and nflows' flow of equal parameters.

    OMP_NUM_THREADS=1 python tests/benchmarks/density.py [--quick] [--sets moons,funnel]
        [--families maf] [--seeds 2] [--effort 4]

Ours are the built-in flows in their default configuration, built from the registry. A peer
has as many layers of the same kind, and the hidden width that brings its number of
parameters nearest to ours; counted are those that move the density, so neither what a mask
hides nor the empty half of a triangular matrix. What else belongs to a peer's own recipe stays:
ReLU units, residual conditioners and, before each spline coupling of nflows, the permutation and
the LU layer of the paper.

All get the same standardised columns, the same batches in the same order, Adam with a
cosine to zero, the same clipping, and the weights of the step that was best on
validation rows. Nothing was tuned on test rows. Our spline coupling begins with a whitening that
is fitted to the training rows and is no parameter; it is shown with and without.

The patches and the particles are read from the folder of larger data sets, and are left out
where it is not there. The 2-D targets have known densities and entropies, so the divergence is
known too: KL = -E log q - H, in which the error that the test rows make in H is taken out by
what they give for it. Needs the packages of the extra `bench`.
"""

from __future__ import annotations

import argparse
import bisect
import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nflows.transforms
import numpy as np
import torch
import zuko
from nflows.distributions import StandardNormal
from nflows.flows import Flow as NFlow
from nflows.flows import MaskedAutoregressiveFlow, SimpleRealNVP
from nflows.nn.nets import ResidualNet
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import norm
from torch import Tensor, nn

from hybridflow.config import Config
from hybridflow.densities import Normal
from hybridflow.flows import (
    MAF,
    RealNVP,
    SigmoidalAutoregressive,
    SplineAutoregressive,
    SplineCoupling,
)
from hybridflow.registry import default_registry
from hybridflow.specs import Event
from hybridflow.transforms import LU

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
BINS, BOUND = 8, 5.0
LEARNING_RATE, CLIP, CHECKS = 2e-3, 5.0, 10

Array = NDArray[np.float64]


# --- data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows to train on, to choose the step by and to test on, and how long to train."""

    train: Array
    validation: Array
    test: Array
    batch: int
    steps: int
    reference: Array | float = 0.0
    """What is taken off the log-density of the test rows: the true one, where it is known."""
    entropy: float = math.nan


def patches(data: Path) -> Table:
    """Return 8 x 8 patches of natural images in the form of the literature, 63 columns."""
    parts = np.load(data / "density" / "bsds_patches_small.npz", allow_pickle=False)
    rng = np.random.default_rng(0)

    def rows(part: str, count: int) -> Array:
        bytes_ = parts[part][rng.permutation(len(parts[part]))[:count]]
        x = (bytes_ + rng.random(bytes_.shape)) / 256
        return (x - x.mean(axis=1, keepdims=True))[:, :-1]

    return Table(rows("train", 20_000), rows("val", 500), rows("test", 2000), 128, 200)


def particles(data: Path) -> Table:
    """Return the published part of MiniBooNE, 43 columns, split as its description suggests."""
    x = np.load(data / "density" / "miniboone_1523.npz", allow_pickle=False)["X"]
    return Table(x[:1220], x[1220:1370], x[1370:], 128, 200)


class Target:
    """A density in the plane: a mixture of products of blurred intervals.

    .. math:: p(x) = \\frac1K \\sum_k \\prod_i
        \\frac{\\Phi((x_i - a_{ki})/s) - \\Phi((x_i - a_{ki} - w)/s)}{w}

    With w = 0 the parts are normal distributions.
    """

    def __init__(self, corners: Array, width: float, blur: float) -> None:
        self.corners, self.width, self.blur = corners, width, blur

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Draw rows."""
        corner = self.corners[rng.integers(len(self.corners), size=count)]
        noise = self.blur * rng.standard_normal((count, 2))
        return corner + self.width * rng.random((count, 2)) + noise

    def log_density(self, x: Array) -> Array:
        """Return the log-density of each row."""
        total = np.zeros(len(x))
        for corner in self.corners:
            u = (x - corner) / self.blur
            if self.width:
                factors = (ndtr(u) - ndtr(u - self.width / self.blur)) / self.width
            else:
                factors = norm.pdf(u) / self.blur
            total += factors.prod(axis=1) / len(self.corners)
        return np.log(np.maximum(total, 1e-300))

    def entropy(self) -> float:
        """Return the entropy, by quadrature on a grid that the density is smooth on."""
        margin = self.width + 9 * self.blur
        low, high = self.corners.min(axis=0) - margin, self.corners.max(axis=0) + margin
        step = self.blur / 4
        axes = [np.arange(a, b, step) for a, b in zip(low, high, strict=True)]
        total = 0.0
        for first in axes[0]:
            line = np.stack([np.full(len(axes[1]), first), axes[1]], axis=1)
            log_density = self.log_density(line)
            total -= (np.exp(log_density) * log_density).sum() * step**2
        return float(total)


class Bent:
    """A normal x_1 and a normal x_2 whose mean or scale depends on it: closed forms.

    Banana: :math:`x_2 \\sim N(x_1^2, 1/4)`; funnel: :math:`x_2 \\sim N(0, e^{2 x_1})`.
    """

    def __init__(self, *, funnel: bool) -> None:
        self.funnel = funnel

    def _conditional(self, x: Array) -> tuple[Array, Array]:
        return (0 * x, np.exp(x)) if self.funnel else (x**2, 0 * x + 0.5)

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Draw rows."""
        first = rng.standard_normal(count)
        mean, scale = self._conditional(first)
        return np.stack([first, mean + scale * rng.standard_normal(count)], axis=1)

    def log_density(self, x: Array) -> Array:
        """Return the log-density of each row."""
        mean, scale = self._conditional(x[:, 0])
        density: Array = norm.logpdf(x[:, 0]) + norm.logpdf(x[:, 1], mean, scale)
        return density

    def entropy(self) -> float:
        """Return the entropy: the mean of log scale is that at x_1 = 0."""
        return math.log(2 * math.pi * math.e) + (0.0 if self.funnel else math.log(0.5))


def circle(count: int) -> Array:
    """Return the middles of parts around a circle."""
    angle = 2 * np.pi * np.arange(count) / count
    return 4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def moons() -> Array:
    """Return the middles of parts along two interleaved half circles."""
    angle = np.linspace(0, np.pi, 60)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([upper, np.array([1.0, 0.5]) - upper])


def fields() -> Array:
    """Return the corners of the dark fields of a board of 4 x 4."""
    return np.array([[i, j] for i in range(4) for j in range(4) if (i + j) % 2], dtype=float)


TARGETS: dict[str, Callable[[], Target | Bent]] = {
    "8 gaussians": lambda: Target(circle(8), 0.0, 0.5),
    "moons": lambda: Target(moons(), 0.0, 0.1),
    "checkerboard": lambda: Target(fields(), 1.0, 0.05),
    "funnel": lambda: Bent(funnel=True),
    "banana": lambda: Bent(funnel=False),
}


def plane(name: str) -> Table:
    """Return rows of a target."""
    target, rng = TARGETS[name](), np.random.default_rng(0)
    train, validation, test = (target.sample(rng, count) for count in (10_000, 1000, 5000))
    log_density = target.log_density(test)
    return Table(train, validation, test, 256, 400, log_density, target.entropy())


FILES: dict[str, Callable[[Path], Table]] = {"BSDS patches": patches, "MINIBOONE part": particles}


# --- flows -----------------------------------------------------------------------------------


class Ours(nn.Module):
    """A flow of the registry before a standard normal."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        spec, config = default_registry().resolve("flow", config)
        self.flow = spec.build(Event.real(features), config)
        self.base = Normal(features)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of each row."""
        z, ladj = self.flow(x)
        return self.base.log_prob(z) + ladj


class OfZuko(nn.Module):
    """A flow of zuko."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of each row."""
        density: Tensor = self.flow().log_prob(x)
        return density


RQS = {
    "univariate": zuko.transforms.MonotonicRQSTransform,
    "shapes": [(BINS,), (BINS,), (BINS - 1,)],
}


def zuko_coupling(features: int, layers: int, width: int, **univariate: object) -> nn.Module:
    """Return zuko's couplings: its NICE class with another map than its affine default."""
    return OfZuko(
        zuko.flows.NICE(features, transforms=layers, hidden_features=(width, width), **univariate)
    )


def zuko_masked(
    kind: Callable[..., nn.Module], features: int, layers: int, width: int, **more: object
) -> nn.Module:
    """Return zuko's masked autoregressive layers."""
    return OfZuko(kind(features, transforms=layers, hidden_features=(width, width), **more))


def nflows_spline(features: int, layers: int, width: int, *, coupling: bool) -> nn.Module:
    """Return the spline flow of nflows' authors, coupled or masked."""
    box = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
    parts: list[nn.Module] = []
    for layer in range(layers):
        if coupling:
            parts += [
                nflows.transforms.RandomPermutation(features),
                nflows.transforms.LULinear(features, identity_init=True),
                nflows.transforms.PiecewiseRationalQuadraticCouplingTransform(
                    mask=(torch.arange(features) + layer) % 2,
                    transform_net_create_fn=lambda i, o: ResidualNet(i, o, width, num_blocks=1),
                    **box,
                ),
            ]
        else:
            parts += [
                nflows.transforms.ReversePermutation(features),
                nflows.transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                    features, hidden_features=width, num_blocks=1, **box
                ),
            ]
    return NFlow(nflows.transforms.CompositeTransform(parts), StandardNormal([features]))


Build = Callable[[int, int], nn.Module]
"""Makes a peer of a number of features and a hidden width."""


@dataclass(frozen=True)
class Family:
    """Configurations of ours, the first of which is compared, and the peers."""

    ours: dict[str, Config]
    peers: dict[str, Build]


FAMILIES = {
    "spline-coupling": Family(
        {"hybridflow": SplineCoupling(), "hybridflow, whiten=False": SplineCoupling(whiten=False)},
        {
            "zuko": lambda d, h: zuko_coupling(d, 4, h, **RQS),
            "nflows": lambda d, h: nflows_spline(d, 4, h, coupling=True),
        },
    ),
    "spline-autoregressive": Family(
        {"hybridflow": SplineAutoregressive()},
        {
            "zuko": lambda d, h: zuko_masked(zuko.flows.NSF, d, 3, h),
            "nflows": lambda d, h: nflows_spline(d, 3, h, coupling=False),
        },
    ),
    "realnvp": Family(
        {"hybridflow": RealNVP()},
        {
            "zuko": lambda d, h: zuko_coupling(d, 8, h),
            "nflows": lambda d, h: SimpleRealNVP(d, h, num_layers=8, num_blocks_per_layer=1),
        },
    ),
    "maf": Family(
        {"hybridflow": MAF()},
        {
            "zuko": lambda d, h: zuko_masked(zuko.flows.MAF, d, 5, h),
            "nflows": lambda d, h: MaskedAutoregressiveFlow(
                d, h, num_layers=5, num_blocks_per_layer=1
            ),
        },
    ),
    "sigmoidal-autoregressive": Family(
        {"hybridflow": SigmoidalAutoregressive()},
        {
            "zuko": lambda d, h: zuko_masked(
                zuko.flows.NAF, d, 3, h, network={"hidden_features": (16, 16)}
            ),
        },
    ),
}


def free_parameters(density: nn.Module) -> int:
    """Return how many parameters move the density: not those behind a mask of zeros."""
    total = sum(parameter.numel() for parameter in density.parameters())
    for module in density.modules():
        if isinstance(module, LU):  # of either triangle half is never read
            total -= module.lower.numel() + len(module.lower)
        for name, buffer in module.named_buffers(recurse=False):
            if name.startswith("mask") and buffer.ndim == 2:
                total -= int((buffer == 0).sum())
    return total


def of_size(build: Build, features: int, wanted: int) -> Callable[[], nn.Module]:
    """Return a maker of the peer whose width brings it nearest to a number of parameters."""

    def size(width: int) -> int:
        return free_parameters(build(features, width))

    width = bisect.bisect_left(range(512), wanted, lo=2, key=size)
    width = min((max(2, width - 1), width), key=lambda h: abs(size(h) - wanted))
    return lambda: build(features, width)


# --- training --------------------------------------------------------------------------------


def finite_mean(values: Tensor) -> float:
    """Return the mean, or minus infinity where one of the values is not a number."""
    mean = float(values.double().mean())
    return mean if math.isfinite(mean) else -math.inf


@torch.no_grad()
def scores(density: nn.Module, x: Tensor) -> Tensor:
    """Return the log-density of each row."""
    density.eval()
    return torch.cat([density.log_prob(part) for part in x.split(250)])


def fit(build: Callable[[], nn.Module], table: Table, seed: int, steps: int) -> Array:
    """Train, and return the log-density of each test row, in the units of the data."""
    location, scale = table.train.mean(axis=0), table.train.std(axis=0)
    train, validation, test = (
        torch.as_tensor((rows - location) / scale)
        for rows in (table.train, table.validation, table.test)
    )
    torch.manual_seed(seed)
    density = build()
    if isinstance(density, Ours):
        density.flow.double().initialize(train)
        density.flow.float()
    train, validation, test = train.float(), validation.float(), test.float()
    adam = torch.optim.Adam(density.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best, weights = -math.inf, copy.deepcopy(density.state_dict())
    for step, rows in enumerate(batches(len(train), table.batch, steps, seed), start=1):
        density.train()
        adam.zero_grad()
        (-density.log_prob(train[rows]).mean()).backward()
        length = nn.utils.clip_grad_norm_(density.parameters(), CLIP)
        if length.isfinite():
            adam.step()
        schedule.step()
        if step % max(1, steps // CHECKS) == 0:
            value = finite_mean(scores(density, validation))
            if value > best:
                best, weights = value, copy.deepcopy(density.state_dict())
    density.load_state_dict(weights)
    found: Array = scores(density, test).double().numpy()
    return found - np.log(scale).sum()


def batches(rows: int, size: int, count: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of row numbers: the table in one random order after the other."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(count):
        if len(order) < size:
            order = torch.randperm(rows, generator=generator)
        batch, order = order[:size], order[size:]
        yield batch


# --- tables ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What one contender reached on one set: a figure for each seed, larger is better."""

    parameters: int
    values: list[float]

    def __sub__(self, other: Result) -> Result:
        pairs = zip(self.values, other.values, strict=True)
        return Result(self.parameters - other.parameters, [a - b for a, b in pairs])

    def show(self, *, sign: str = "", digits: int = 2) -> str:
        """Return the mean and the spread over seeds."""
        spread = statistics.stdev(self.values) if len(self.values) > 1 else 0.0
        return f"{statistics.fmean(self.values):{sign}.{digits}f} ± {spread:.{digits}f}"


def measure(family: Family, table: Table, seeds: int, effort: float) -> dict[str, Result]:
    """Train all contenders of a family on a set."""
    features = table.train.shape[1]
    builds: dict[str, Callable[[], nn.Module]] = {
        name: (lambda config=config: Ours(features, config)) for name, config in family.ours.items()
    }
    wanted = free_parameters(next(iter(builds.values()))())
    for name, peer in family.peers.items():
        builds[name] = of_size(peer, features, wanted)
    results = {}
    for name, build in builds.items():
        start = time.process_time()
        values = []
        for seed in range(seeds):
            found = fit(build, table, seed, max(1, round(effort * table.steps)))
            values.append(float((found - table.reference).mean()))
        results[name] = Result(free_parameters(build()), values)
        spent = time.process_time() - start
        print(f"  {name}: {results[name].show(digits=3)}, {spent:.0f} s", flush=True)
    return results


def section(name: str, found: dict[str, dict[str, Result]], tables: dict[str, Table]) -> list[str]:
    """Return the table of one family."""
    ours, peers = list(FAMILIES[name].ours), list(FAMILIES[name].peers)
    gains = [(mine, peer) for mine in ours for peer in peers]
    short = {mine: mine.removeprefix("hybridflow, ").replace("hybridflow", "ours") for mine in ours}
    heads = ["set", *ours, *peers, *(f"{short[mine]} - {peer}" for mine, peer in gains)]
    heads.append(f"parameters: ours, {', '.join(peers)}")
    lines = [f"## {name}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for set_, results in found.items():
        digits = 3 if set_ in TARGETS else 2
        cells = [set_]
        for contender in (*ours, *peers):
            shown = results[contender]
            if set_ in TARGETS:
                shown = Result(shown.parameters, [-value for value in shown.values])
            cells.append(shown.show(digits=digits))
        for mine, peer in gains:
            cells.append((results[mine] - results[peer]).show(sign="+", digits=digits))
        cells.append(", ".join(str(results[c].parameters) for c in (ours[0], *peers)))
        lines.append(f"| {' | '.join(cells)} |")
    cells = ["mean gain per column", *[""] * len((*ours, *peers))]
    for mine, peer in gains:
        gain = statistics.fmean(
            statistics.fmean((results[mine] - results[peer]).values) / tables[set_].train.shape[1]
            for set_, results in found.items()
        )
        cells.append(f"{gain:+.3f}")
    return [*lines, f"| {' | '.join(cells)} | |"]


def chosen(names: str | None, known: list[str]) -> list[str]:
    """Return the names of a list with commas, all that are known if there is none."""
    if names is None:
        return known
    for name in (wanted := [name.strip() for name in names.split(",")]):
        if name not in known:
            raise SystemExit(f"{name!r} is none of {', '.join(known)}")
    return wanted


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few steps; writes nothing")
    parser.add_argument("--sets", help=f"some of {', '.join((*FILES, *TARGETS))}")
    parser.add_argument("--families", help=f"some of {', '.join(FAMILIES)}")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--effort", type=float, default=1.0, help="multiple of the steps")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the larger data sets")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/density.md")
    arguments = parser.parse_args()
    seeds, effort = (1, 0.05) if arguments.quick else (arguments.seeds, arguments.effort)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers' own
    tables = {}
    for name in chosen(arguments.sets, [*FILES, *TARGETS]):
        if name in TARGETS:
            tables[name] = plane(name)
        elif (arguments.data / "density").exists():
            tables[name] = FILES[name](arguments.data)
        else:
            print(f"{name}: skipped, {arguments.data / 'density'} is not there")
    lines = [
        "# Held-out likelihood beside other libraries",
        "",
        "Written by `python tests/benchmarks/density.py`, which says what is compared and how.",
        f"Mean and standard deviation over {seeds} seeds, with the same rows. Of the tables: the",
        "mean log-density of test rows in nats, more is better; of the targets in the plane: the",
        "divergence KL(p, q) in nats, less is better. Differences: nats, + is better for ours.",
        "",
        "| set | columns | training rows | test rows | batch | steps | entropy |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, table in tables.items():
        entropy = f"{table.entropy:.4f}" if name in TARGETS else ""
        lines.append(
            f"| {name} | {table.train.shape[1]} | {len(table.train)} | {len(table.test)} | "
            f"{table.batch} | {round(effort * table.steps)} | {entropy} |"
        )
    print("\n".join(lines))
    for name in chosen(arguments.families, list(FAMILIES)):
        found = {}
        for set_, table in tables.items():
            print(f"{name}, {set_}", flush=True)
            found[set_] = measure(FAMILIES[name], table, seeds, effort)
        lines += ["", *(part := section(name, found, tables))]
        print("", *part, "", sep="\n", flush=True)
    if not arguments.quick:
        arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
