"""What a component holds: saved, loaded, copied, moved and built again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from hybridflow.testing.case import AnyCase, copy_of, perturb
from hybridflow.testing.check import expect


def state_loads_into_a_fresh_build(case: AnyCase) -> None:
    """What is saved of a fitted component makes a fresh one give the same numbers."""
    fitted, fresh = case.ready(), case.build(seed=1)
    state = {name: tensor.clone() for name, tensor in fitted.state_dict().items()}
    if state:  # an empty file of tensors is no file
        state = load(save({name: tensor.contiguous() for name, tensor in state.items()}))
    fresh.load_state_dict(state, strict=True)
    with torch.no_grad():
        expected, actual = (case.evaluate(each, case.inputs(5)) for each in (fitted, fresh))
    for what, tensor in expected.items():
        expect(
            torch.equal(tensor, actual[what]),
            f"{what} differs after loading: something that matters is no parameter or buffer",
        )


def tensors_are_contiguous(case: AnyCase) -> None:
    """Parameters and buffers are contiguous, as a file of tensors needs them."""
    for module in (case.raw(), case.ready()):
        scattered = [name for name, part in module.state_dict().items() if not part.is_contiguous()]
        expect(not scattered, f"not contiguous: {', '.join(scattered)}")


def tensors_share_no_memory(case: AnyCase) -> None:
    """No two parameters or buffers lie in the same memory."""
    for module in (case.raw(), case.ready()):
        seen: dict[int, str] = {}
        for name, tensor in module.state_dict().items():
            if tensor.numel():
                other = seen.setdefault(tensor.untyped_storage().data_ptr(), name)
                expect(other == name, f"{other} and {name} share their memory")


def tensors_are_parameters_or_buffers(case: AnyCase) -> None:
    """Every tensor that a module holds is registered, so that it is moved and saved with it."""
    module = case.ready()
    with torch.no_grad():
        case.evaluate(module, case.inputs(2))
    loose = [name for name, part in module.named_modules() for name in _loose(name, part)]
    expect(not loose, f"neither parameter nor buffer: {', '.join(loose)}")


def building_twice_gives_the_same(case: AnyCase) -> None:
    """The same seed builds the same numbers; every seed builds the same names and shapes."""
    first, second, other = case.build(seed=0), case.build(seed=0), case.build(seed=1)
    state = first.state_dict()
    for name, tensor in second.state_dict().items():
        expect(name in state, f"{name} is there in one build only")
        expect(torch.equal(tensor, state[name]), f"{name} differs under the same seed")
    shapes = {name: tensor.shape for name, tensor in state.items()}
    others = {name: tensor.shape for name, tensor in other.state_dict().items()}
    expect(shapes == others, "names or shapes of the state depend on the seed")


def a_copy_is_independent(case: AnyCase) -> None:
    """A deep copy gives the same numbers, and changing it leaves the original alone."""
    module = case.ready()
    inputs = case.inputs(4)
    with torch.no_grad():
        before = case.evaluate(module, inputs)
        copied = copy_of(module)
        for what, tensor in case.evaluate(copied, inputs).items():
            expect(torch.equal(tensor, before[what]), f"{what} of a copy differs")
        perturb(copied, 1.0)
        for what, tensor in case.evaluate(module, inputs).items():
            expect(torch.equal(tensor, before[what]), f"changing a copy changed {what}")


def _loose(path: str, module: nn.Module) -> Iterator[str]:
    for name, value in vars(module).items():
        if name not in ("_parameters", "_buffers", "_modules") and _holds_a_tensor(value):
            yield f"{path}.{name}".lstrip(".")


def _holds_a_tensor(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_a_tensor, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_a_tensor, value))
    return isinstance(value, Tensor)


CHECKS = (
    state_loads_into_a_fresh_build,
    tensors_are_contiguous,
    tensors_share_no_memory,
    tensors_are_parameters_or_buffers,
    building_twice_gives_the_same,
    a_copy_is_independent,
)
