"""The 19 corruptions of Hendrycks and Dietterich (2019) at their published severities, without torch.

CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C each have a severity table of their own, called a preset here. The same
image, with the same seed, always becomes the same bytes, whatever its position, the batch and the number of workers.
"""

from subspace_serve.data.corruptions.corrupt import available, corrupt
from subspace_serve.data.corruptions.names import (
    CORRUPTIONS,
    PRESETS,
    SEVERITIES,
    check_name,
    check_severity,
    preset_for,
)
from subspace_serve.data.corruptions.photographs import frost_photographs

__all__ = [
    "CORRUPTIONS",
    "PRESETS",
    "SEVERITIES",
    "available",
    "check_name",
    "check_severity",
    "corrupt",
    "frost_photographs",
    "preset_for",
]
