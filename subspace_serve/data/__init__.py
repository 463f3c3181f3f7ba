"""Data sets: labelled uint8 images to train on, to choose on and to report on."""

from __future__ import annotations

from subspace_serve.data.dataset import DataSet
from subspace_serve.data.folder import FolderImages
from subspace_serve.data.images import Augmentation, Images, MemoryImages
from subspace_serve.data.load import load_data, load_images
from subspace_serve.data.noise import label_noise
from subspace_serve.data.preprocessing import Preprocessing, preprocess

__all__ = [
    "Augmentation",
    "DataSet",
    "FolderImages",
    "Images",
    "MemoryImages",
    "Preprocessing",
    "label_noise",
    "load_data",
    "load_images",
    "preprocess",
]
