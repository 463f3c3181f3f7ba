"""The endpoints as one matrix, and the networks between them as views of flat vectors.

All of a network's parameters lie in one vector theta of n numbers, and the endpoints in a matrix Omega of shape
(m, n). Collapsing is then one matrix-vector product, theta = c Omega, and the gradient of every endpoint is one outer
product, since dL/d omega_i = c_i dL/d theta (equation 3). A single ordinary backward pass on an ordinary network trains
the whole subspace (appendix D.2), and the endpoints' gradients are added to their momentum without ever being tensors
of their own. The exception is `EndpointMatrix.spread`, for ranks that sum them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from subspace_serve.space.subspace import Weights
from trainer.state import trained_parameters


@dataclass(frozen=True)
class Layout:
    """Where each parameter of a network lies in the flat vector.

    Parameters with two or more dimensions (convolutions, linear layers) come first: only these are compared by the
    regulariser (appendix D.3). Convolution kernels lie in channels-last order where that is safe (see
    `trainer.memory_order`).

    Attributes:
        shapes: each parameter's shape, by name, in the order of the vector.
        layers: the index of the layer (module) that each parameter belongs to, in the same order.
        regularised: how many leading numbers belong to parameters with two or more dimensions.
        channels_last: whether kernels and images are in channels-last order.
    """

    shapes: dict[str, torch.Size]
    layers: tuple[int, ...]
    regularised: int
    channels_last: bool = False

    @staticmethod
    def of(model: nn.Module, *, channels_last: bool = False) -> Layout:
        """Return the layout of a network's parameters; `memory_order` says whether channels-last is safe."""
        parameters = sorted(trained_parameters(model).items(), key=lambda item: item[1].dim() < 2)
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in parameters))
        return Layout(
            {name: parameter.shape for name, parameter in parameters},
            tuple(modules.index(name.rpartition(".")[0]) for name, _ in parameters),
            sum(parameter.numel() for _, parameter in parameters if parameter.dim() >= 2),
            channels_last,
        )

    @property
    def size(self) -> int:
        """Length n of the flat vector."""
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def layer_count(self) -> int:
        """How many layers have parameters."""
        return max(self.layers) + 1

    @property
    def slices(self) -> list[slice]:
        """Where each parameter lies."""
        ends = list(accumulate(shape.numel() for shape in self.shapes.values()))
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Return each parameter as a view of `vector`, shape (n,)."""
        return {
            name: _shaped(vector[where], shape, self.channels_last)
            for (name, shape), where in zip(self.shapes.items(), self.slices, strict=True)
        }

    def weights(self, vector: Tensor) -> dict[str, np.ndarray]:
        """Return copies of the parameters in `vector`, shape (n,), as ordinary weights."""
        views = self.views(vector.detach().cpu())
        return {name: np.array(view.numpy(), order="C") for name, view in views.items()}


def _shaped(flat: Tensor, shape: torch.Size, channels_last: bool) -> Tensor:
    """View a flat run as a parameter; with `channels_last`, four dimensions are stored in that order."""
    if len(shape) != 4 or not channels_last:
        return flat.view(shape)
    out_channels, in_channels, height, width = shape
    return flat.view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)


class FlatNetwork:
    """A network whose parameters and gradients are views of two flat vectors.

    Attributes:
        model: the network; used like any other.
        values: theta, shape (n,).
        gradient: dL/d theta, shape (n,); backward passes add to it.
    """

    def __init__(self, model: nn.Module, layout: Layout, device: torch.device) -> None:
        self.model = model.to(device)
        self.values = torch.empty(layout.size, device=device)
        self.gradient = torch.zeros(layout.size, device=device)
        values, gradients = layout.views(self.values), layout.views(self.gradient)
        for name, parameter in trained_parameters(self.model).items():
            parameter.data = values[name]
            parameter.grad = gradients[name]


class EndpointMatrix:
    """Endpoints Omega and their momentum, both of shape (m, n), and the operations that training needs.

    Args:
        layout: where each parameter lies in a row.
        endpoints: the weights to start from.
        device: where both matrices are kept.
        layerwise: whether each layer has its own coefficients; then coefficients have shape (m, layers), else (m, 1).
    """

    def __init__(self, layout: Layout, endpoints: Sequence[Weights], device: torch.device, *, layerwise: bool) -> None:
        self.layout = layout
        self.values = torch.zeros(len(endpoints), layout.size, device=device)
        self.velocity = torch.zeros_like(self.values)
        self.set_endpoints(endpoints)
        self._segments = (
            list(zip(layout.slices, layout.layers, strict=True)) if layerwise else [(slice(0, layout.size), 0)]
        )

    def set_endpoints(self, endpoints: Sequence[Weights]) -> None:
        """Copy ordinary weights into the rows."""
        for row, endpoint in zip(self.values, endpoints, strict=True):
            for name, view in self.layout.views(row).items():
                view.copy_(torch.from_numpy(endpoint[name]))

    def endpoints(self) -> list[dict[str, np.ndarray]]:
        """Return copies of the endpoints as ordinary weights."""
        return [self.layout.weights(row) for row in self.values]

    @torch.no_grad()
    def collapse_into(self, network: FlatNetwork, coefficients: Tensor) -> None:
        """Set the network's weights to P(alpha) = c Omega; coefficients c have shape (m, 1) or (m, layers)."""
        for where, layer in self._segments:
            torch.mv(self.values[:, where].t(), coefficients[:, layer], out=network.values[where])

    @torch.no_grad()
    def spread(self, gradients: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the endpoints' gradients, shape (m, n), from coefficients and gradients in the form `update` takes."""
        summed = torch.zeros_like(self.values)
        for coefficients, gradient in gradients:
            for where, layer in self._segments:
                summed[:, where].addr_(coefficients[:, layer], gradient[where])
        return summed

    @torch.no_grad()
    def update(
        self,
        gradients: Sequence[tuple[Tensor, Tensor]] | Tensor,
        *,
        pair: tuple[int, int] | None,
        beta: float,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        """Take one step of SGD with momentum on every endpoint (Algorithm 1).

        Args:
            gradients: for each sampled network, its coefficients, shape (m, 1) or (m, layers), and dL/d theta, (n,);
                or the endpoints' own, shape (m, n).
            pair: the two endpoints whose cosine the regulariser penalises in this step; None to leave it out.
            beta: the regulariser's strength.
            learning_rate: step size.
            momentum: fraction of the velocity that is kept.
            weight_decay: L2 penalty on every parameter.
        """
        if isinstance(gradients, Tensor):
            self.velocity.mul_(momentum).add_(gradients)
        else:
            decay = momentum
            for coefficients, gradient in gradients:
                for where, layer in self._segments:
                    self.velocity[:, where].addr_(coefficients[:, layer], gradient[where], beta=decay)
                decay = 1.0
        if pair is not None and beta:
            compared = self.values[:, : self.layout.regularised]
            self.velocity[:, : self.layout.regularised].addmm_(cosine_gradient(compared, pair, beta), compared)
        self.velocity.add_(self.values, alpha=weight_decay)
        self.values.add_(self.velocity, alpha=-learning_rate)

    def distances(self) -> tuple[float, float]:
        """Return L2 distance and squared cosine similarity, each averaged over pairs of endpoints (figure 3).

        Like the regulariser, they leave out parameters of one dimension. Both are NaN with a single endpoint. The
        similarity is 0 where an endpoint is, which has no direction.
        """
        compared = self.values[:, : self.layout.regularised].double()
        gram = compared @ compared.t()
        norms = gram.diagonal()
        first, second = torch.triu_indices(len(gram), len(gram), offset=1)
        if len(first) == 0:
            return math.nan, math.nan
        products = gram[first, second]
        l2 = (norms[first] + norms[second] - 2 * products).clamp_min(0).sqrt()
        cosine_squared = products.square() / (norms[first] * norms[second]).clamp_min(torch.finfo(torch.float64).tiny)
        return l2.mean().item(), cosine_squared.mean().item()


def cosine_gradient(endpoints: Tensor, pair: tuple[int, int], beta: float) -> Tensor:
    """Return the matrix S for which S @ Omega is the gradient of beta * cos^2(omega_j, omega_k) (equation 5).

    With a = <omega_j, omega_k>, A = |omega_j|^2 and B = |omega_k|^2, the gradient with respect to omega_j is
    2 beta (a / AB) omega_k - 2 beta (a^2 / A^2 B) omega_j. Shapes: (m, n) to (m, m).
    """
    j, k = pair
    product = torch.dot(endpoints[j], endpoints[k])
    norm_j, norm_k = endpoints[j].square().sum(), endpoints[k].square().sum()
    cross = 2 * beta * product / (norm_j * norm_k)
    matrix = torch.zeros(len(endpoints), len(endpoints), dtype=endpoints.dtype, device=endpoints.device)
    matrix[j, k] = matrix[k, j] = cross
    matrix[j, j] = -cross * product / norm_j
    matrix[k, k] = -cross * product / norm_k
    return matrix
