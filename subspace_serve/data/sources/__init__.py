"""Readers of data sets, by the name that a specification begins with."""

from __future__ import annotations

from subspace_serve.data.sources.cifar import read_cifar10, read_cifar100
from subspace_serve.data.sources.corrupted_layouts import CORRUPTED_READERS
from subspace_serve.data.sources.digits import read_digits
from subspace_serve.data.sources.image_folder import read_folder, read_imagenet, read_tiny_imagenet
from subspace_serve.data.sources.mnist import read_fashion_mnist, read_mnist
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

__all__ = ["CORRUPTED_READERS", "READERS", "Options", "Reader", "Source"]
