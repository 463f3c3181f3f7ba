"""The bundled trainer: lines, curves and simplexes of image classifiers in one training run."""
