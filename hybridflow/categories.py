"""Categorical columns and missing flags: their joint masses, and how networks read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, silu

from hybridflow.nets import start

_FEW = 16
"""Levels up to which networks read an indicator of each."""

_ROWS = 2**13  # that are looked at together, which bounds memory


class Categories(nn.Module):
    r"""The masses of C categorical variables, one after the other.

    .. math:: P(c) = \prod_{j=1}^{C} P(c_j \mid c_1, \dots, c_{j-1})

    A variable with K known levels has the codes 0 to K - 1, and K for a level that
    was never seen, whose mass is the share of levels seen once among the training
    rows (Good-Turing, with one seen and one unseen row added):

    .. math:: P(c_j = K \mid \cdot) = \epsilon_j = \frac{n_1 + 1}{n + 2}, \qquad
        P(c_j = k \mid \cdot) = (1 - \epsilon_j)
        \operatorname{softmax}_k\bigl(b_j + V_j\, \mathrm{SiLU}(U e + d)\bigr)

    e are centred indicators of the levels, zero for an unseen one, and U and V are
    masked so that variable j reads those before it only.

    Parameters
    ----------
    sizes : sequence of int
        Known levels of each variable.
    open : sequence of bool
        Whether a variable may have levels never seen; of others, such as missing
        flags, all are known.
    hidden_units : int, default=128

    References
    ----------
    Yoshua Bengio, Samy Bengio. Modeling High-Dimensional Discrete Data with
    Multi-Layer Neural Networks. 2000.
    Irving John Good. The Population Frequencies of Species and the Estimation of
    Population Parameters. 1953.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.categories import Categories
    >>> categories = Categories([2, 3], [False, True])
    >>> categories.log_prob(torch.tensor([[0, 2], [1, 3]])).shape
    torch.Size([2])
    >>> categories.encode(torch.tensor([[0, 2]])).shape
    torch.Size([1, 5])
    """

    frequency: Tensor
    unseen: Tensor
    variable: Tensor
    level: Tensor
    size: Tensor
    reads: Tensor
    read_by: Tensor
    narrow: Tensor

    def __init__(self, sizes: Sequence[int], open: Sequence[bool], hidden_units: int = 128) -> None:
        super().__init__()
        self.sizes, self.open = tuple(sizes), tuple(open)
        count, total = len(self.sizes), sum(self.sizes)
        self.groups = [slice(a, b) for a, b in pairwise(accumulate(self.sizes, initial=0))]
        size = torch.tensor(self.sizes)
        self.register_buffer("frequency", torch.repeat_interleave(1 / size, size))
        self.register_buffer("unseen", 0.5 * torch.tensor(self.open))
        variable = torch.repeat_interleave(torch.arange(count), size)
        units = hidden_units if count > 1 else 0
        degree = 1 + torch.arange(units) * (count - 1) // max(1, units)
        constants = {
            "size": size,
            "variable": variable,
            "level": torch.cat([torch.arange(k) for k in self.sizes]),
            "reads": (variable[None, :] < degree[:, None]).float(),
            "read_by": (degree[None, :] <= variable[:, None]).float(),
            "narrow": torch.tensor(
                [i for i in range(total) if self.sizes[int(variable[i])] <= _FEW], dtype=torch.int64
            ),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)
        self.inner = nn.Parameter(torch.empty(units, total))
        start(self.inner, count)
        self.inner_bias = nn.Parameter(torch.zeros(units))
        self.outer = nn.Parameter(torch.zeros(total, units))
        self.bias = nn.Parameter(torch.zeros(total))
        self.wide = [j for j, k in enumerate(self.sizes) if k > _FEW]
        self.embedding = nn.ParameterList(
            torch.randn(self.sizes[j], min(_FEW, math.ceil(math.sqrt(self.sizes[j]))))
            for j in self.wide
        )

    @property
    def width(self) -> int:
        """Number of context features that `encode` makes."""
        return len(self.narrow) + sum(int(table.shape[1]) for table in self.embedding)

    def indicators(self, codes: Tensor) -> Tensor:
        """Return 1 for the level of each variable and 0 else, less its frequency.

        An unseen level has zeros: it is read as the average row.

        Parameters
        ----------
        codes : Tensor of int, shape (n, C)

        Returns
        -------
        Tensor of shape (n, sum of sizes)
        """
        mine = codes[:, self.variable]
        known = mine < self.size[self.variable]
        hit = (mine == self.level).to(self.frequency.dtype)
        return (hit - self.frequency) * known

    def encode(self, codes: Tensor) -> Tensor:
        """Return what flow and head read: indicators, or an embedding of many levels.

        Parameters
        ----------
        codes : Tensor of int, shape (n, C)

        Returns
        -------
        Tensor of shape (n, width)
        """
        indicators = self.indicators(codes)
        wide = [
            indicators[:, self.groups[j]] @ table
            for j, table in zip(self.wide, self.embedding, strict=True)
        ]
        return torch.cat([indicators[:, self.narrow], *wide], dim=1)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log P(c) of each row, shape (n,), in nats.

        Parameters
        ----------
        codes : Tensor of int, shape (n, C)
        """
        return torch.cat([self._log_prob(part) for part in torch.split(codes, _ROWS)])

    def _log_prob(self, codes: Tensor) -> Tensor:
        logits = self._logits(codes)
        total = logits.new_zeros(codes.shape[0])
        for j, group in enumerate(self.groups):
            code, size, unseen = codes[:, j], self.sizes[j], self.unseen[j]
            known = code < size
            logs = log_softmax(logits[:, group], dim=1)
            found = logs.gather(1, code.clamp(max=size - 1)[:, None])[:, 0] + torch.log1p(-unseen)
            total = total + torch.where(known, found, unseen.log())
        return total

    def _logits(self, codes: Tensor) -> Tensor:
        hidden = linear(self.indicators(codes), self.inner * self.reads, self.inner_bias)
        return linear(silu(hidden), self.outer * self.read_by, self.bias)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n rows of codes, shape (n, C), of known levels."""
        codes = self.size.expand(n, -1).clone()
        for j, group in enumerate(self.groups):
            weights = torch.softmax(self._logits(codes)[:, group], dim=1).double()
            edges = weights.cumsum(1)
            uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
            place = (edges < uniform.to(edges.device) * edges[:, -1:]).sum(1)
            codes[:, j] = place.clamp(max=self.sizes[j] - 1)
        return codes

    @torch.no_grad()
    def initialize(self, codes: Tensor, weight: Tensor) -> None:
        """Start with independent variables at their frequencies.

        Parameters
        ----------
        codes : Tensor of int, shape (n, C)
        weight : Tensor of shape (n,)
        """
        for j, group in enumerate(self.groups):
            size = self.sizes[j]
            counts = weight.new_zeros(size + 1).index_add_(0, codes[:, j], weight)[:size]
            self.frequency[group] = counts / counts.sum()
            self.bias[group] = torch.log(counts + 0.5)
            if self.open[j]:
                once = (counts * ((counts > 0) & (counts <= 1))).sum()
                self.unseen[j] = (once + 1) / (counts.sum() + 2)
