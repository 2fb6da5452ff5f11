"""Training shared by processes: what one rank of a ``torch.distributed`` job does.

Every rank draws the same batch with the same noise and takes its share of the rows. The
loss is a ratio whose denominators are those of the whole batch, so that the sum of the
gradients of all ranks is the gradient of one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from hybridflow.errors import ConfigError, InputError, LostProcessError


@dataclass(frozen=True)
class Group:
    """The processes that train one model together; of one process nothing is exchanged.

    Parameters
    ----------
    rank : int, default=0
    size : int, default=1

    Examples
    --------
    >>> from hybridflow.distributed import Group
    >>> [Group(rank, 3).share(4).tolist() for rank in range(3)]
    [[0, 1], [2], [3]]
    >>> Group().sum(torch.ones(2)).tolist()
    [1.0, 1.0]
    """

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which initialises, calls callbacks and writes files."""
        return self.rank == 0

    def share(self, n: int) -> Tensor:
        """Return the positions of this rank's rows among n; none where n is too small."""
        start, end = (-(-n * rank // self.size) for rank in (self.rank, self.rank + 1))
        return torch.arange(start, end)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over ranks, in float64."""
        if self.alone:
            return tensor
        total = tensor.detach().to(_exchange(), torch.float64, copy=True)
        _talk(lambda: distributed.all_reduce(total))
        return total.to(tensor.device)

    def any(self, flag: bool) -> bool:
        """Return whether the flag of any rank is set."""
        return flag if self.alone else bool(self.sum(torch.tensor(float(flag))) > 0)

    def of_first(self, number: float) -> float:
        """Return the number that rank 0 has."""
        tensor = torch.tensor(number, dtype=torch.float64)
        self.send([tensor])
        return float(tensor)

    def send(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of rank 0."""
        if self.alone:
            return
        for tensor in tensors:
            sent = tensor.detach().to(_exchange(), copy=True).contiguous()
            _talk(lambda sent=sent: distributed.broadcast(sent, src=0))  # type: ignore[misc]
            tensor.detach().copy_(sent)

    def send_model(self, model: nn.Module) -> None:
        """Overwrite the weights and buffers of a model with those of rank 0."""
        self.send(list(model.state_dict().values()))

    def combine(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Add up the gradients of all ranks in place, and return the sum of their losses."""
        if self.alone:
            return loss
        kept = [parameter.grad is not None for parameter in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = [gradient.double().flatten() for gradient in gradients]
        head = torch.tensor([*map(float, kept)], dtype=torch.float64, device=loss.device)
        total = self.sum(torch.cat([loss.detach().double()[None], head, *flat]))
        counts = total[1 : len(kept) + 1].tolist()
        sizes = [parameter.numel() for parameter in parameters]
        sums = torch.split(total[len(kept) + 1 :], sizes)
        for parameter, count, sum_ in zip(parameters, counts, sums, strict=True):
            # What no rank's loss depends on is not touched by the optimiser.
            parameter.grad = sum_.view_as(parameter).to(parameter.dtype) if count else None
        return total[0]

    def check_same(self, what: Tensor, problem: str) -> None:
        """Refuse ranks that would not train the same model.

        Parameters
        ----------
        what : Tensor
            Numbers that tell apart what they start from.
        problem : str
            What is wrong where these differ.

        Raises
        ------
        InputError
            On every rank, if these differ on any.
        """
        if self.alone:
            return
        reference = what.double().clone()
        self.send([reference])
        if self.any(not torch.equal(reference, what.double())):
            raise InputError(f"rank {self.rank} of {self.size}: the ranks of this job {problem}")

    @contextmanager
    def leave_on_error(self) -> Iterator[None]:
        """Leave the job if a block fails, so that no other rank waits for this one."""
        try:
            yield
        except BaseException:
            if not self.alone and distributed.is_initialized():
                distributed.destroy_process_group()
            raise


def current() -> Group:
    """Return the group of this process: alone, unless ``torch.distributed`` is initialised.

    Examples
    --------
    >>> from hybridflow.distributed import current
    >>> current()
    Group(rank=0, size=1)
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return Group()
    return Group(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined() -> Iterator[Group]:
    """Join the job that ``torchrun`` started, for a block; without one the group is of one.

    A job that the process has joined already is used, and not left.
    """
    if not distributed.is_available() or distributed.is_initialized():
        yield current()
        return
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Group()
        return
    distributed.init_process_group("gloo")
    try:
        yield current()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def check_shareable(group: Group, *, jobs: int) -> None:
    """Refuse what cannot be shared by ranks.

    Raises
    ------
    ConfigError
        If members were to be fitted side by side.
    """
    if not group.alone and jobs > 1:
        raise ConfigError(
            f"n_jobs={jobs}: in a distributed job all ranks work on one member at a time; leave "
            "n_jobs out, and start more ranks: torchrun --nproc-per-node"
        )


def _exchange() -> torch.device:
    """Return the device that the backend of the job takes tensors from."""
    nccl = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


def _talk(exchange: Callable[[], object]) -> None:
    """Run an exchange with the other ranks, and say so if one of them is gone."""
    try:
        exchange()
    except RuntimeError as error:
        raise LostProcessError(
            "another rank of the distributed job failed or was killed, so that the training "
            "cannot go on; its own message, above or in its log, says why. Start the job again"
        ) from error
