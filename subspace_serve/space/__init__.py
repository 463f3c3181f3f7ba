"""Weight space: geometries, subspaces and their files, and what `--alpha` takes."""
