"""Triton's description of a model: config.pbtxt, in protobuf's text format."""

from __future__ import annotations

from collections.abc import Mapping

from subspace_serve.bundle.manifest import Input

LABELS_FILE = "labels.txt"

_DATA_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
# As in the service: TF32 would break the parity that export promised, and an exhaustive search would run again for
# every size of a dynamic batch. Triton takes the search from the model's parameters if it has any (1: heuristic).
_OPTIMIZATION = """\
optimization {
  execution_accelerators {
    gpu_execution_accelerator [
      {
        name: "cuda"
        parameters { key: "use_tf32" value: "0" }
      }
    ]
  }
}
"""
_SEARCH = {"cudnn_conv_algo_search": "1"}


def configuration(
    name: str, input: Input, outputs: Mapping[str, tuple[int, ...]], max_batch_size: int, parameters: Mapping[str, str]
) -> str:
    """Return the config.pbtxt of a model; `outputs` has their shapes for one image."""
    return "".join(
        [
            f"name: {_quoted(name)}\n",
            'platform: "onnxruntime_onnx"\nbackend: "onnxruntime"\n',
            f"max_batch_size: {max_batch_size}\n",
            interface(input, outputs),
            "version_policy { latest { num_versions: 1 } }\n",
            "dynamic_batching { }\n",
            _OPTIMIZATION,
            *(
                f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}\n"
                for key, value in (_SEARCH | dict(parameters)).items()
            ),
        ]
    )


def interface(input: Input, outputs: Mapping[str, tuple[int, ...]]) -> str:
    """Return the part of config.pbtxt that all versions of a model have in common: its tensors."""
    taken = _tensor(input.name, _DATA_TYPES[input.dtype], input.shape)
    given = [_tensor(name, "TYPE_FP32", shape) for name, shape in outputs.items()]
    return f"input [\n{taken}]\noutput [\n" + ",\n".join(tensor.rstrip("\n") for tensor in given) + "\n]\n"


def _tensor(name: str, data_type: str, shape: tuple[int, ...]) -> str:
    # Triton has no scalars: one number per image is declared as a vector of one, and reshaped from the graph's scalar.
    dims = f"dims: [ {', '.join(map(str, shape))} ]" if shape else "dims: [ 1 ]\n    reshape { shape: [ ] }"
    labels = f'\n    label_filename: "{LABELS_FILE}"' if name == "probabilities" else ""
    return f"  {{\n    name: {_quoted(name)}\n    data_type: {data_type}\n    {dims}{labels}\n  }}\n"


def _quoted(text: str) -> str:
    """Return a string literal of ASCII characters; quotes, backslashes and all others are given as octal bytes."""
    plain = set(range(32, 127)) - set(b'"\\')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
