"""What ranks of the tests start with: the packages, and the graph of the network that they train."""

import rank_processes  # noqa: F401  (what a rank runs first)

import subspace_serve.cli  # noqa: F401
from subspace_serve.space.architecture import Architecture
from trainer import training  # noqa: F401
from trainer.proof import proven_skeleton

# The digits' shape. A graph is kept by the process that made it, and so by its forks.
proven_skeleton(Architecture("cresnet8-4", classes=10, channels=1, height=8, width=8))
