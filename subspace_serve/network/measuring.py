"""Skeletons that measure the inputs of BatchNorm layers, batch by batch or image by image."""

from __future__ import annotations

import numpy as np

from subspace_serve.network.onnx_file import FLOAT, INT64, Node, Tensor, integer, real, value_info
from subspace_serve.network.skeleton import Skeleton

MEAN, VARIANCE, SHAPE, SQUARE = ":mean", ":variance", ":shape", ":square"
"""Suffixes to the name of a BatchNorm layer's input, which name what is measured of it."""


def batches_graph(skeleton: Skeleton) -> bytes:
    """Return a skeleton in which BatchNorm normalises with its batch's statistics, and outputs them.

    Its outputs are, for each of `batchnorms` and each of its runs, `MEAN` and `VARIANCE` (of the population), shape
    (C,), and `SHAPE`, that of the layer's input.
    """
    model = skeleton.model()
    model.outputs = []
    shapes = []
    for node in model.nodes:
        if not skeleton.has_statistics(node):
            continue
        source = node.inputs[0]
        node.attributes |= {"training_mode": integer("training_mode", 1), "momentum": real("momentum", 0.0)}
        node.outputs = [node.outputs[0], source + MEAN, source + VARIANCE]
        shapes.append(Node("Shape", [source], [source + SHAPE]))
        model.outputs += [
            value_info(source + MEAN, FLOAT, None),
            value_info(source + VARIANCE, FLOAT, None),
            value_info(source + SHAPE, INT64, None),
        ]
    model.nodes += shapes
    return model.encoded()


def images_graph(skeleton: Skeleton) -> bytes:
    """Return a skeleton that measures, image by image, the input of each BatchNorm layer.

    Its outputs are, for each of `batchnorms` and each of its runs, `MEAN` and `SQUARE`: the mean and the mean
    square over an image's pixels of the layer's input, centred and scaled with the layer's statistics, as they
    would be without its weight and bias. Shape (N, C) each.
    """
    model = skeleton.model()
    model.outputs = []
    model.tensors += [
        Tensor("measure:shape", INT64, (3,), raw=np.array([0, 0, -1], "<i8").tobytes()),
        Tensor("measure:axis", INT64, (1,), raw=np.array([2], "<i8").tobytes()),
    ]
    keep = {"keepdims": integer("keepdims", 0)}
    for layer in skeleton.batchnorms:
        (channels,) = layer.mean.shape
        ones, zeros = f"{layer.name}:ones", f"{layer.name}:zeros"
        model.tensors += [
            Tensor(ones, FLOAT, (channels,), raw=np.ones(channels, "<f4").tobytes()),
            Tensor(zeros, FLOAT, (channels,), raw=np.zeros(channels, "<f4").tobytes()),
        ]
        epsilon = {"epsilon": real("epsilon", layer.epsilon)}
        for source in layer.inputs:
            normal, flat, square = (source + suffix for suffix in (":normal", ":flat", ":squared"))
            model.nodes += [
                Node("BatchNormalization", [source, ones, zeros, layer.mean.name, layer.variance.name], [normal],
                     epsilon),
                Node("Reshape", [normal, "measure:shape"], [flat]),
                Node("Mul", [flat, flat], [square]),
                Node("ReduceMean", [flat, "measure:axis"], [source + MEAN], keep),
                Node("ReduceMean", [square, "measure:axis"], [source + SQUARE], keep),
            ]  # fmt: skip
            model.outputs += [value_info(source + suffix, FLOAT, None) for suffix in (MEAN, SQUARE)]
    return model.encoded()
