"""New rows as a graph: noise of the base in, columns of the table out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hybridflow.densities import Normal
from hybridflow.densities.full_normal import FullNormal
from hybridflow.densities.location_scale import DiagonalNormal
from hybridflow.estimators.base import FlowEstimator
from hybridflow.export.rewriting import for_export
from hybridflow.model import HybridModel

MEMBER, NOISE, UNIFORM = "member", "noise", "uniform"


class SampleGraph(nn.Module):
    """An estimator from noise to columns.

    Parameters
    ----------
    estimator : FlowEstimator
    dtype : torch.dtype
        Of the networks.

    Attributes
    ----------
    inputs : list of str
        ``noise`` (n, D), standard normal; with several members ``member`` (n,), whole
        numbers; with levels or missing cells ``uniform`` (n, C), between 0 and 1.
    outputs : list of str
        The columns that are drawn.
    texts : dict of str to tuple
        The outputs that are codes of text, and the text.
    """

    def __init__(self, estimator: FlowEstimator, dtype: torch.dtype) -> None:
        super().__init__()
        self.members = nn.ModuleList(Drawing(model, dtype) for model in estimator.models_)
        self.schema = schema = estimator.schema_
        self.layout = schema.layout
        columns = [schema.columns[i] for i in schema.kept]
        self.outputs = [column.name for column in columns]
        self.texts: dict[str, tuple[str, ...]] = {}
        for column in columns:
            if any(isinstance(level, str) for level in column.levels):
                self.texts[column.name] = tuple(map(str, (*column.levels, "")))
            elif column.levels:
                levels = [*map(float, column.levels), math.nan]
                self.register_buffer(
                    f"levels_{len(self.texts)}_{columns.index(column)}",
                    torch.tensor(levels, dtype=torch.float64),
                )
        self.columns = columns
        self.variables = len(self.layout.levels) + len(self.layout.flagged)
        self.inputs = [NOISE]
        self.inputs += [MEMBER] if len(self.members) > 1 else []
        self.inputs += [UNIFORM] if self.variables else []

    @staticmethod
    def reason_against(estimator: FlowEstimator) -> str | None:
        """Return why the draws have no graph, None if they have one."""
        for model in estimator.models_:
            if not isinstance(model.base, Normal | DiagonalNormal | FullNormal):
                return f"{type(model.base).__name__} is not drawn from normal noise"
        return None

    def example(self, n: int) -> list[Tensor]:
        """Return inputs of n rows."""
        generator = torch.Generator().manual_seed(0)
        float64 = torch.float64
        features = len(self.layout.numbers)
        made = {
            NOISE: torch.randn(n, features, generator=generator, dtype=float64),
            MEMBER: torch.randint(len(self.members), (n,), generator=generator),
            UNIFORM: torch.rand(n, self.variables, generator=generator, dtype=float64),
        }
        return [made[name] for name in self.inputs]

    def forward(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the columns; text as codes."""
        given = dict(zip(self.inputs, inputs, strict=True))
        each = [member(given[NOISE], given.get(UNIFORM)) for member in self.members]
        numbers, codes = each[0]
        if MEMBER in given:
            for place in range(1, len(each)):
                mine = given[MEMBER] == place
                numbers = torch.where(mine[:, None], each[place][0], numbers)
                if codes is not None:
                    codes = torch.where(mine[:, None], each[place][1], codes)
        found: dict[int, Tensor] = {}
        for k, place in enumerate(self.layout.numbers):
            found[place] = numbers[:, k]
        for j, place in enumerate(self.layout.levels):
            assert codes is not None
            found[place] = self._level(place, codes[:, j])
        for j, k in enumerate(self.layout.flagged):
            assert codes is not None
            gone = codes[:, len(self.layout.levels) + j] == 1
            place = self.layout.numbers[k]
            found[place] = torch.where(gone, math.nan, found[place])
        if self.layout.exposure is not None:
            found[self.layout.exposure] = torch.ones_like(given[NOISE][:, 0])
        return tuple(found[place] for place in range(self.layout.width))

    def _level(self, place: int, codes: Tensor) -> Tensor:
        column = self.columns[place]
        if column.name in self.texts:
            return codes
        (table,) = (b for n, b in self.named_buffers() if n.endswith(f"_{place}") and "." not in n)
        return table[codes]


class Drawing(nn.Module):
    """One member from noise to numbers and codes."""

    root: Tensor
    shift: Tensor

    def __init__(self, model: HybridModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = for_export(model)
        base = self.model.base
        root = torch.eye(model.event.features, dtype=torch.float64)
        shift = torch.zeros(model.event.features, dtype=torch.float64)
        with torch.no_grad():
            if isinstance(base, DiagonalNormal):
                root, shift = torch.diag(base.scale()), base.location.clone()
            elif isinstance(base, FullNormal):
                factor, _ = base._factor()
                root, shift = torch.linalg.inv(factor).t().contiguous(), base.location.clone()
        self.register_buffer("root", root)
        self.register_buffer("shift", shift)
        self.model.network_to(dtype)

    def forward(self, noise: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return numbers (n, D) and codes (n, C)."""
        model = self.model
        codes = None if uniform is None else self._codes(uniform)
        context = model.context(codes)
        z = torch.addmm(self.shift, noise, self.root)
        standard, _ = model.flow.inverse(z.to(model.dtype), context)
        x, _ = model.preprocess.inverse(standard.double())
        return model.settled(x), codes

    def _codes(self, uniform: Tensor) -> Tensor:
        """Return one code per variable, each drawn given those before it."""
        categories = self.model.categories
        assert categories is not None
        codes = categories.size.expand(uniform.shape[0], -1)
        drawn: list[Tensor] = []
        for j, group in enumerate(categories.groups):
            weights = torch.softmax(categories._logits(codes)[:, group], 1).double()
            edges = weights.cumsum(1)
            place = (edges < uniform[:, j : j + 1] * edges[:, -1:]).to(torch.int64).sum(1)
            drawn.append(place.clamp(max=categories.sizes[j] - 1))
            codes = torch.cat([torch.stack(drawn, 1), codes[:, j + 1 :]], 1)
        return codes
