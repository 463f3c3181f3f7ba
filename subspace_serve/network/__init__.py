"""One network of a subspace: BatchNorm statistics of its own, and where it runs."""
