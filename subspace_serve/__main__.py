"""`python -m subspace_serve`: the command line."""

from subspace_serve.cli import main

main()
