"""Readers of data sets, by the name that a specification begins with."""

from __future__ import annotations

from subspace_serve.data.sources.cifar import read_cifar10, read_cifar100
from subspace_serve.data.sources.cifar_c import CIFAR10_C, CIFAR100_C, CORRUPTED_COPY
from subspace_serve.data.sources.corrupted_sets import CorruptedReader
from subspace_serve.data.sources.digits import read_digits
from subspace_serve.data.sources.image_folder import read_folder, read_imagenet, read_tiny_imagenet
from subspace_serve.data.sources.imagenet_c import IMAGENET_C, TINY_IMAGENET_C
from subspace_serve.data.sources.medmnist_c import MEDMNIST_C
from subspace_serve.data.sources.mnist import read_fashion_mnist, read_mnist
from subspace_serve.data.sources.mnist_c import MNIST_C
from subspace_serve.data.sources.npz import read_npz
from subspace_serve.data.sources.source import Options, Reader, Source

READERS: dict[str, Reader] = {
    "digits": read_digits,
    "mnist": read_mnist,
    "fashion-mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "tiny-imagenet": read_tiny_imagenet,
    "imagenet": read_imagenet,
    "folder": read_folder,
    "npz": read_npz,
}

# Named with a type of corruption and a severity, as in cifar10-c:PATH:fog:3.
CORRUPTED_READERS: dict[str, CorruptedReader] = {
    "cifar10-c": CIFAR10_C,
    "cifar100-c": CIFAR100_C,
    "tiny-imagenet-c": TINY_IMAGENET_C,
    "imagenet-c": IMAGENET_C,
    "medmnist-c": MEDMNIST_C,
    "mnist-c": MNIST_C,
    "corrupted": CORRUPTED_COPY,
}

__all__ = ["CORRUPTED_READERS", "READERS", "CorruptedReader", "Options", "Reader", "Source"]
