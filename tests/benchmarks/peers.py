"""Speed and memory beside zuko, nflows, normflows and FrEIA, and beside a bare conditioner.

    OMP_NUM_THREADS=1 python tests/benchmarks/peers.py [--rounds 21] [--quick]

Couplings: D = 43, five couplings, conditioners of 128 x 128, eight bins, no layers in
between. The bare conditioner is the networks of the spline by themselves, trained on the mean
square of their outputs: no coupling flow of this shape can be faster. "No loss" leaves
that loss out too, and starts the way back from a gradient made beforehand. zuko, nflows and
normflows get the same plain network in their own coupling layer; FrEIA, whose release
has no splines, its block of an affine coupling, a permutation and a scale.

A step is forward, backward and fused Adam. All contenders take turns within a round; times
are CPU time of the process in one thread, and each ratio is the median over the rounds
of the ratio within a round. Needs the packages of the extra `bench`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import FrEIA.framework
import FrEIA.modules
import nflows.transforms
import normflows.flows.neural_spline.coupling
import torch
import zuko
from torch import Tensor, nn

from hybridflow.batches import Rows
from hybridflow.densities import Normal
from hybridflow.model import HybridModel
from hybridflow.specs import Event
from hybridflow.training import Trainer, TrainingConfig
from hybridflow.transforms import (
    AffineMap,
    Compose,
    Coupling,
    MaskedAutoregressive,
    RationalQuadraticMap,
    Standardize,
    alternating_mask,
)

ROOT = Path(__file__).parents[2]
FEATURES, HIDDEN, LAYERS, BINS, SAMPLES = 43, 128, 5, 8, 1024
MASKS = [torch.tensor(alternating_mask(FEATURES, layer)) for layer in range(LAYERS)]


class Conditioner(nn.Sequential):
    """The plain network of the shapes that all contenders use."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Linear(inputs, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, outputs),
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the outputs; there is no context."""
        return super().forward(x)


class Contender:
    """A flow as two functions, and what is timed of it."""

    def __init__(
        self,
        modules: nn.Module,
        forward: Callable[[Tensor], tuple[Tensor, Tensor]],
        inverse: Callable[[Tensor], Tensor],
    ) -> None:
        self.forward, self.inverse = forward, inverse
        self.parameters = list(modules.parameters())
        self.buffers = list(modules.buffers())
        with torch.no_grad():  # some way from the identity, as after training
            for parameter in self.parameters:
                parameter += 0.02 * torch.randn_like(parameter)
        self.adam = torch.optim.Adam(self.parameters, lr=1e-5, fused=True)

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative log-density under a standard normal, up to a constant."""
        z, ladj = self.forward(x)
        return (z.square().sum(1) / 2 - ladj).mean()

    def step(self, x: Tensor) -> None:
        """Take one step of training."""
        self.adam.zero_grad()
        self.loss(x).backward()
        self.adam.step()

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> None:
        """Evaluate the density."""
        self.loss(x)

    @torch.no_grad()
    def sample(self, x: Tensor) -> None:
        """Draw samples."""
        self.inverse(torch.randn(SAMPLES, FEATURES))


class Bare(Contender):
    """The conditioners of the spline flow by themselves."""

    def __init__(self, *, given: bool) -> None:
        kept = [int(mask.sum()) for mask in MASKS]
        outputs = [(FEATURES - k) * (3 * BINS - 1) for k in kept]
        self.nets = nn.ModuleList(Conditioner(k, o) for k, o in zip(kept, outputs, strict=True))
        self.kept, self.given = kept, given
        self.gradients: list[Tensor] = []
        super().__init__(self.nets, lambda x: (x, x), lambda z: z)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Return the parameters of all splines."""
        return [net(x[:, :k]) for net, k in zip(self.nets, self.kept, strict=True)]

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean square, summed over the couplings."""
        outputs = self.outputs(x)
        return sum(o.sum() if self.given else o.square().mean() for o in outputs)

    def step(self, x: Tensor) -> None:
        """Take one step of training."""
        if not self.given:
            super().step(x)
            return
        self.adam.zero_grad()
        outputs = self.outputs(x)
        if not self.gradients:
            self.gradients = [torch.randn_like(output) / len(x) for output in outputs]
        torch.autograd.backward(outputs, self.gradients)
        self.adam.step()

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> None:
        """Go forward."""
        self.outputs(x)

    @torch.no_grad()
    def sample(self, x: Tensor) -> None:
        """Go forward with as many rows as the others sample."""
        self.outputs(torch.randn(SAMPLES, FEATURES))


def ours(elementwise: RationalQuadraticMap | AffineMap) -> Contender:
    """Return couplings of this package."""
    flow = Compose(Coupling(elementwise, mask.tolist(), (HIDDEN, HIDDEN)) for mask in MASKS)
    return Contender(flow, flow, lambda z: flow.inverse(z)[0])


def of_zuko(*, spline: bool) -> Contender:
    """Return coupling layers of zuko."""
    if spline:
        kind = {
            "univariate": zuko.transforms.MonotonicRQSTransform,
            "shapes": [(BINS,), (BINS,), (BINS - 1,)],
        }
    else:
        kind = {}
    layers = nn.ModuleList(
        zuko.flows.coupling.GeneralCouplingTransform(
            FEATURES, mask=mask, hidden_features=(HIDDEN, HIDDEN), activation=nn.SiLU, **kind
        )
        for mask in MASKS
    )

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for layer in layers:
            x, ladj = layer().call_and_ladj(x)
            total = total + ladj
        return x, total

    def inverse(z: Tensor) -> Tensor:
        for layer in reversed(layers):
            z = layer().inv(z)
        return z

    return Contender(layers, forward, inverse)


def of_nflows(layer_type: type[nn.Module]) -> Contender:
    """Return spline coupling layers of nflows, or of normflows, which has its own copy."""
    layers = nn.ModuleList(
        layer_type(
            mask=1 - mask.int(),
            transform_net_create_fn=Conditioner,
            num_bins=BINS,
            tails="linear",
            tail_bound=5.0,
        )
        for mask in MASKS
    )

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for layer in layers:
            x, ladj = layer(x)
            total = total + ladj
        return x, total

    def inverse(z: Tensor) -> Tensor:
        for layer in reversed(layers):
            z, _ = layer.inverse(z)
        return z

    return Contender(layers, forward, inverse)


def of_freia() -> Contender:
    """Return affine blocks of FrEIA."""
    flow = FrEIA.framework.SequenceINN(FEATURES)
    for _ in range(LAYERS):
        flow.append(FrEIA.modules.AllInOneBlock, subnet_constructor=Conditioner)
    return Contender(flow, flow, lambda z: flow(z, rev=True)[0])


CONTENDERS: dict[str, Callable[[], Contender]] = {
    "bare conditioner": lambda: Bare(given=False),
    "bare, no loss": lambda: Bare(given=True),
    "hybridflow spline": lambda: ours(RationalQuadraticMap(BINS)),
    "zuko spline": lambda: of_zuko(spline=True),
    "nflows spline": lambda: of_nflows(
        nflows.transforms.PiecewiseRationalQuadraticCouplingTransform
    ),
    "normflows spline": lambda: of_nflows(
        normflows.flows.neural_spline.coupling.PiecewiseRationalQuadraticCoupling
    ),
    "hybridflow affine": lambda: ours(AffineMap()),
    "zuko affine": lambda: of_zuko(spline=False),
    "FrEIA affine": of_freia,
}


def interleaved(functions: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the CPU seconds of each function in each round, after two rounds to warm up."""
    seconds: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 2):
        for function, times in zip(functions, seconds, strict=True):
            start = time.process_time()
            function()
            if turn >= 2:
                times.append(time.process_time() - start)
    return seconds


def ratio(times: Sequence[float], to: Sequence[float]) -> float:
    """Return the median of the ratios within rounds."""
    return statistics.median(a / b for a, b in zip(times, to, strict=True))


def bytes_kept(contender: Contender, x: Tensor) -> int:
    """Return the bytes of the distinct storages that autograd holds after a forward pass."""
    own = {t.untyped_storage().data_ptr() for t in (*contender.parameters, *contender.buffers)}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in own:
            held[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        contender.loss(x)
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


def couplings(rows: int, rounds: int) -> list[str]:
    """Return the table of couplings at a batch size."""
    torch.manual_seed(0)
    contenders = {name: build() for name, build in CONTENDERS.items()}
    x = torch.randn(rows, FEATURES)
    parts = [
        interleaved(
            [partial(getattr(contender, part), x) for contender in contenders.values()], rounds
        )
        for part in ("step", "log_prob", "sample")
    ]
    kept = [bytes_kept(contender, x) / 1e6 for contender in contenders.values()]
    lines = [
        f"## Couplings, batch {rows}",
        "",
        "| | parameters | step, ms | step / bare | log p, ms | log p / bare forward | "
        f"{SAMPLES} samples, ms | kept, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for index, (name, contender) in enumerate(contenders.items()):
        step, density, sample = (1e3 * statistics.median(part[index]) for part in parts)
        over = [ratio(part[index], part[0]) for part in parts]
        size = sum(parameter.numel() for parameter in contender.parameters) / 1e3
        lines.append(
            f"| {name} | {size:.0f}k | {step:.1f} | {over[0]:.2f} | {density:.1f} | "
            f"{over[1]:.2f} | {sample:.1f} | {kept[index]:.1f} |"
        )
    return lines


def autoregressive(rounds: int, shapes: Sequence[tuple[int, int]]) -> list[str]:
    """Return the table of inverses of one masked affine layer."""
    lines = [
        f"## Inverse of a masked autoregressive layer, {SAMPLES} rows",
        "",
        "One affine layer with two hidden layers of H units. The error is that of the round trip",
        "in float32.",
        "",
        "| D, H | forward, ms | inverse, ms | zuko inverse, ms | zuko / ours | "
        "inverse / forward | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for features, hidden in shapes:
        torch.manual_seed(0)
        flow = MaskedAutoregressive(AffineMap(), features, (hidden, hidden))
        peer = zuko.flows.MAF(features, transforms=1, hidden_features=(hidden, hidden))
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
            x = torch.randn(SAMPLES, features)
            theirs = peer().transform
            functions = [
                partial(flow, x),
                partial(flow.inverse, flow(x)[0]),
                partial(theirs.inv, theirs(x)),
            ]
            forward, inverse, other = interleaved(functions, rounds)
            error = (functions[1]()[0] - x).abs().max().item()
        middle = [1e3 * statistics.median(times) for times in (forward, inverse, other)]
        lines.append(
            f"| {features}, {hidden} | {middle[0]:.2f} | {middle[1]:.2f} | {middle[2]:.0f} | "
            f"{ratio(other, inverse):.0f} | {ratio(inverse, forward):.1f} | {error:.0e} |"
        )
    return lines


def training_loop(rounds: int) -> list[str]:
    """Return what of a step of training is not forward and backward."""
    features, rows = 10, 256
    torch.manual_seed(0)
    event = Event.real(features)
    flow = Compose(
        Coupling(AffineMap(), alternating_mask(features, layer), (64, 64)) for layer in range(4)
    )
    model = HybridModel(
        event,
        Standardize(features),
        flow,
        Normal(features),
        None,
        step=torch.zeros(features),
        lattice=torch.zeros(features, dtype=torch.bool),
        origin=torch.zeros(features),
    )
    ones = torch.ones(20 * rows, dtype=torch.float64)
    table = Rows(torch.randn(20 * rows, features, dtype=torch.float64), None, ones, ones)
    model.network_to(torch.float32)
    trainer = Trainer(
        model,
        table,
        None,
        TrainingConfig(batch_size=rows, steps=10**6, epochs=10**6),
        likelihood_weight=1.0,
        seed=0,
    )
    batch = table[torch.arange(rows)]

    def both_ways() -> None:
        _, density = trainer.losses(batch, None)
        density.backward()

    step, passes = interleaved([trainer.take_step, both_ways], 10 * rounds)
    share = 1 - 1 / ratio(step, passes)
    return [
        "## The training loop",
        "",
        f"D = {features}, batch {rows}, four affine couplings of 64 x 64: a step takes "
        f"{1e3 * statistics.median(step):.2f} ms, of which {100 * share:.0f} % are drawing the "
        "batch, clipping the gradient and the optimiser.",
    ]


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="few rounds, small; writes nothing")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/peers.md")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else arguments.rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers' own
    # Once freed, a large block keeps the allocator from handing memory back to the system and
    # taking it again in every step, which some contenders would pay for more than others.
    del (_ := [torch.empty(7_000_000)])[:]
    lines = [
        "# Speed and memory beside other libraries",
        "",
        "Written by `python tests/benchmarks/peers.py`, which says what is measured and how. "
        f"CPU, one thread, float32, {rounds} rounds.",
    ]
    print("\n".join(lines))
    batches = (512,) if arguments.quick else (512, 2048)
    shapes = ((16, 128), (43, 128)) + (() if arguments.quick else ((43, 512), (128, 128)))
    for section in (
        *(partial(couplings, rows, rounds) for rows in batches),
        partial(autoregressive, max(3, rounds // 4), shapes),
        partial(training_loop, rounds),
    ):
        lines += ["", *(part := section())]
        print("", *part, sep="\n", flush=True)
    if not arguments.quick:
        arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
