"""Damage to safetensors files."""

from __future__ import annotations

import json
from pathlib import Path


def unknown_to_numpy(file: Path, tensor: str) -> None:
    """Declare a tensor's bytes to be of a type that NumPy does not have."""
    whole = file.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    first, last = header[tensor]["data_offsets"]
    header[tensor] |= {"dtype": "F8_E4M3", "shape": [last - first]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[end:])
