"""Train networks in weight-space subspaces, export points of them, and serve these."""

__version__ = "0.1.0"
