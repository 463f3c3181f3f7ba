"""SWA-Gaussian: samples of a Gaussian fitted to SWA's members (Maddox et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from subspace_serve.space.subspace import Weights
from trainer.methods.swa import SWA, WeightAveraging


class _Gaussian(WeightAveraging):
    def finished(self, members: Sequence[Weights], seed: int) -> Sequence[Weights]:
        """Return as many samples of the Gaussian as there are members."""
        from trainer.gaussian import fit_gaussian
        from trainer.randomness import torch_generator

        gaussian = fit_gaussian(members)
        return [gaussian.sample(torch_generator(seed, "gaussian", index)) for index in range(len(members))]


SWAG = _Gaussian(
    "swag",
    "samples of a Gaussian fitted to SWA's members (Maddox et al. 2019)",
    ("endpoints",),
    members=SWA.members,
    foreign_settings=SWA.foreign_settings,
)
