"""Bytes kept for the gradient and time of a step over depth, for each setting of `Compose.memory`.

    python tests/benchmarks/memory.py [--depths 8,32,110] [--rounds 5]

A step is forward and backward through a stack of couplings (D = 43, batch
512, conditioners of 128 x 128, float32). Bytes are those of the distinct
tensors that autograd holds between the two, inputs included, parameters not.
Times are CPU time of the process in one thread; the settings take turns, and
each ratio is the median over the rounds of the ratio to the plain step of the
same round. The gradient's error is the norm of its difference to the plain
gradient of the same stack in float64, relative to the norm of that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from hybridflow.transforms import (
    AffineMap,
    Compose,
    Coupling,
    ElementwiseMap,
    RationalQuadraticMap,
    alternating_mask,
)
from hybridflow.transforms.reversible import recomputed

ROOT = Path(__file__).parents[2]
FEATURES, ROWS, HIDDEN = 43, 512, (128, 128)
MAPS: dict[str, ElementwiseMap] = {"affine": AffineMap(), "spline": RationalQuadraticMap(bins=8)}
SETTINGS = ("plain", "checkpoint", "reversible", "no anchors")


def stack(name: str, depth: int) -> Compose:
    """Return couplings that are some way from the identity, as after training."""
    torch.manual_seed(0)
    couplings = Compose(
        Coupling(MAPS[name], alternating_mask(FEATURES, layer), HIDDEN) for layer in range(depth)
    )
    with torch.no_grad():
        for parameter in couplings.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return couplings


def forward(flow: Compose, setting: str, x: Tensor) -> Tensor:
    """Return the negative log-density under a standard normal, up to a constant."""
    if setting == "no anchors":
        z, ladj = recomputed(list(flow), x, None, anchor_every=len(flow), on_drift=print)
    else:
        flow.memory = setting
        z, ladj = flow(x)
    return (z.square().sum(1) / 2 - ladj).mean()


def bytes_kept(flow: Compose, setting: str, x: Tensor) -> int:
    """Return the bytes of the distinct storages that autograd holds after a forward pass."""
    own = {p.untyped_storage().data_ptr() for p in (*flow.parameters(), *flow.buffers())}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward(flow, setting, x)
    assert loss.requires_grad
    return sum(held.values())


def gradient(flow: Compose, setting: str, x: Tensor) -> Tensor:
    """Return the gradient of all parameters as one vector, in float64."""
    flow.zero_grad()
    forward(flow, setting, x).backward()
    return torch.cat([p.grad.double().flatten() for p in flow.parameters()])


def measure(name: str, depth: int, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return MB, time ratio and gradient error of each setting."""
    flow = stack(name, depth)
    x = torch.randn(ROWS, FEATURES)
    flow.double()
    truth = gradient(flow, "plain", x.double())
    flow.float()
    kept = {setting: bytes_kept(flow, setting, x) / 1e6 for setting in SETTINGS}
    error = {
        setting: ((gradient(flow, setting, x) - truth).norm() / truth.norm()).item()
        for setting in SETTINGS
    }
    seconds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    for _ in range(rounds):
        for setting in SETTINGS:
            flow.zero_grad()
            start = time.process_time()
            forward(flow, setting, x).backward()
            seconds[setting].append(time.process_time() - start)
    ratio = {
        setting: statistics.median(
            t / plain for t, plain in zip(seconds[setting], seconds["plain"], strict=True)
        )
        for setting in SETTINGS
    }
    return {setting: (kept[setting], ratio[setting], error[setting]) for setting in SETTINGS}


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", default="8,32,110")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/memory.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Memory: bytes kept for the gradient over depth",
        "",
        "Written by `python tests/benchmarks/memory.py`. Forward and backward through a stack of",
        f"couplings, D = {FEATURES}, batch {ROWS}, conditioners of 128 x 128, float32, one thread.",
        "MB: what autograd holds between the two passes, parameters left out. Time: CPU time over",
        f"that of the plain step, median of {arguments.rounds} interleaved rounds. Error: of the",
        "gradient, against float64, relative.",
        "",
        "| map | layers | `memory` | MB | plain MB / MB | time | error of the gradient |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in MAPS:
        for depth in map(int, arguments.depths.split(",")):
            results = measure(name, depth, arguments.rounds)
            for setting, (kept, ratio, error) in results.items():
                saving = results["plain"][0] / kept
                lines.append(
                    f"| {name} | {depth} | {setting} | {kept:.2f} | {saving:.1f} | "
                    f"{ratio:.2f} | {error:.1e} |"
                )
                print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
