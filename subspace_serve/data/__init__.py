"""Data sets: labelled uint8 images to train on, to choose on and to report on."""

from __future__ import annotations

from subspace_serve.data.array import ArrayImages, MemoryImages
from subspace_serve.data.augmentation import Augmentation
from subspace_serve.data.corrupted_copy import write_corrupted_copy
from subspace_serve.data.dataset import DataSet
from subspace_serve.data.drawing import label_noise, permutation
from subspace_serve.data.folder import FolderImages
from subspace_serve.data.images import Images
from subspace_serve.data.load import load_images, load_part, load_unlabelled
from subspace_serve.data.preprocessing import Preprocessing
from subspace_serve.data.specification import corruptions_in
from subspace_serve.data.summary import summary
from subspace_serve.data.training_data import load_checked, load_data
from subspace_serve.data.views import CorruptedImages

__all__ = [
    "ArrayImages",
    "Augmentation",
    "CorruptedImages",
    "DataSet",
    "FolderImages",
    "Images",
    "MemoryImages",
    "Preprocessing",
    "corruptions_in",
    "label_noise",
    "load_checked",
    "load_data",
    "load_images",
    "load_part",
    "load_unlabelled",
    "permutation",
    "summary",
    "write_corrupted_copy",
]
