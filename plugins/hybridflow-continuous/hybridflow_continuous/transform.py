"""A flow in continuous time: the solution of a differential equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from hybridflow.nets import checked_context
from hybridflow.transforms import Transform
from hybridflow.transforms.implicit import attach_gradient

State = tuple[Tensor, Tensor]


class Field(nn.Module):
    """The velocity of a row: a network of the row, the time and the context.

    Parameters
    ----------
    features, context_features : int
    hidden : tuple of int
        Widths of the hidden layers, at least one.
    """

    def __init__(self, features: int, context_features: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = (features + context_features + 1, *hidden)
        self.features, self.context_features = features, context_features
        self.hidden = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.out = nn.Linear(hidden[-1], features)
        with torch.no_grad():  # at rest until trained
            self.out.weight.zero_()
            self.out.bias.zero_()

    def velocity(self, t: Tensor, x: Tensor, context: Tensor) -> Tensor:
        """Return v of shape (n, d), at times of shape () or (n, 1)."""
        h = self._inputs(t, x, context)
        for layer in self.hidden:
            h = torch.tanh(layer(h))
        v: Tensor = self.out(h)
        return v

    def forward(self, t: Tensor, x: Tensor, context: Tensor, tangents: Tensor) -> State:
        r"""Return v, and how it changes along tangents, :math:`(\partial v / \partial x)\, e`.

        Parameters
        ----------
        t : Tensor of shape ()
        x : Tensor of shape (n, d)
        context : Tensor of shape (n, c)
        tangents : Tensor of shape (n, k, d)
        """
        h = self._inputs(t, x, context)
        dh = nn.functional.pad(tangents, (0, self.context_features + 1))
        for layer in self.hidden:
            h = torch.tanh(layer(h))
            dh = (dh @ layer.weight.t()) * (1 - h**2)[:, None]
        return self.out(h), dh @ self.out.weight.t()

    def _inputs(self, t: Tensor, x: Tensor, context: Tensor) -> Tensor:
        return torch.cat([x, context, t.to(x).expand(len(x), 1)], 1)


class Exact(nn.Module):
    """The equation of rows and of their Jacobians, whose columns are tangents."""

    def __init__(self, field: Field, context: Tensor) -> None:
        super().__init__()
        self.field, self.context = field, context

    def forward(self, t: Tensor, state: State) -> State:
        """Return the derivative with respect to time."""
        velocity, change = self.field(t, state[0], self.context, state[1])
        return velocity, change


class Estimated(nn.Module):
    r"""The equation of rows and of an estimate :math:`e^\top J e` of their log-determinants."""

    def __init__(self, field: Field, context: Tensor, signs: Tensor) -> None:
        super().__init__()
        self.field, self.context, self.signs = field, context, signs

    def forward(self, t: Tensor, state: State) -> State:
        """Return the derivative with respect to time."""
        velocity, change = self.field(t, state[0], self.context, self.signs)
        return velocity, (change * self.signs).sum((1, 2))


class Continuous(Transform):
    r"""Follow a row along a velocity field, from time 0 to time 1.

    .. math:: \frac{dx}{dt} = v(x, t, c), \qquad
        \frac{d\,\mathrm{ladj}}{dt} = \operatorname{tr} \frac{\partial v}{\partial x}

    by Runge-Kutta steps of fixed length: with adaptive ones the rows of a batch
    would decide each other's steps. The Jacobian is carried along in place of its
    trace, :math:`dJ/dt = (\partial v / \partial x)\,J`: the steps then give that of
    the map that they are, and ladj is exact however few they are.

    Parameters
    ----------
    features, context_features : int
    hidden : tuple of int
    steps : int
        Steps of the solver.
    estimate : bool
        Whether training takes Hutchinson's estimate of the trace, from one
        random vector of signs per row and pass; in evaluation ladj is exact.
    adjoint : bool
        Whether gradients come from solving backwards, in memory that does not
        grow with the steps, and not from the recorded steps.

    References
    ----------
    .. [1] FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative
           Models, W. Grathwohl et al., 2019
    """

    seed: Tensor
    count: Tensor

    def __init__(
        self,
        features: int,
        context_features: int,
        hidden: tuple[int, ...],
        steps: int,
        estimate: bool = False,
        adjoint: bool = False,
    ) -> None:
        super().__init__()
        self.field = Field(features, context_features, hidden)
        self.solver = odeint_adjoint if adjoint else odeint
        self.steps, self.estimate = steps, estimate
        if estimate:
            self.register_buffer("seed", torch.randint(2**62, ()))
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def exact_inverse(self) -> bool:
        """Whether the inverse is a formula: it is solved for."""
        return False

    @property
    def repeatable(self) -> bool:
        """Whether a second pass gives the same: an estimate draws other signs."""
        return not (self.estimate and self.training)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve forwards, from data to latent."""
        given = self._context(x, context)
        if self.estimate and self.training:
            equation = Estimated(self.field, given, self._signs(x))
            z, ladj = self._steps(equation, (x, x.new_zeros(len(x))))
            return z, ladj
        z, jacobian = self._steps(Exact(self.field, given), (x, _identity(x)))
        return z, torch.linalg.slogdet(jacobian).logabsdet

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve backwards; a Newton step takes out what both directions differ by."""
        given = self._context(z, context)
        with torch.no_grad():
            x, _ = self._steps(
                Exact(self.field, given), (z, z.new_zeros(len(z), 0, z.shape[1])), -1
            )
            image, jacobian = self._steps(Exact(self.field, given), (x, _identity(x)))
            x = x + torch.linalg.solve(jacobian.mT, (z - image)[..., None])[..., 0]
        return attach_gradient(lambda x: self.forward(x, context), x, z)

    def _context(self, x: Tensor, context: Tensor | None) -> Tensor:
        given = checked_context(context, self.field.context_features)
        return x.new_zeros(len(x), 0) if given is None else given

    def _steps(self, equation: nn.Module, start: State, direction: int = 1) -> State:
        states = self.solver(
            equation,
            start,
            start[0].new_tensor([0.0, 1.0][::direction]),
            method="rk4",
            options={"step_size": 1 / self.steps},
        )
        return states[0][-1], states[1][-1]

    def _signs(self, x: Tensor) -> Tensor:
        """Return random signs of shape (n, 1, d), and count the draw."""
        generator = torch.Generator().manual_seed(int(self.seed) + int(self.count))
        self.count += 1
        return 2 * torch.randint(2, (len(x), 1, x.shape[1]), generator=generator).to(x) - 1


def _identity(x: Tensor) -> Tensor:
    """Return the Jacobian of every row at the start, shape (n, d, d)."""
    return torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
