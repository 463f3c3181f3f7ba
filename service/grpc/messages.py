"""The protocol's messages, from its compiled definition.

They are made in a pool of their own: in one process, protobuf's own pool takes only one definition of the package
`inference`, and clients of the protocol bring theirs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from service.documents import RequestError
from service.grpc.wire import Data, WireError, bytes_besides

SERVICE = "inference.GRPCInferenceService"
POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString(Path(__file__).with_name("open_inference.binpb").read_bytes()).file:
    POOL.Add(_file)
_DESCRIPTOR = POOL.FindServiceByName(SERVICE)

METHODS = tuple(method.name for method in _DESCRIPTOR.methods)
"""The service's methods."""
REQUESTS = {method.name: GetMessageClass(method.input_type) for method in _DESCRIPTOR.methods}
"""The class of what each method takes."""
RESPONSES = {method.name: GetMessageClass(method.output_type) for method in _DESCRIPTOR.methods}
"""The class of what each method answers."""


_BYTES_BESIDES_DATA = 64 * 1024
# Lists of numbers are data only where they are packed, as they are in every message of proto3.
_CONTENTS = REQUESTS["ModelInfer"].DESCRIPTOR.file.message_types_by_name["InferTensorContents"].fields_by_name
_NUMBERS: Data = {_CONTENTS[name].number: None for name in ("uint_contents", "fp32_contents")}
_TENSOR = REQUESTS["ModelInfer"].InferInputTensor.DESCRIPTOR.fields_by_name
_INFER = REQUESTS["ModelInfer"].DESCRIPTOR.fields_by_name
_DATA: Data = {
    _INFER["raw_input_contents"].number: None,
    _INFER["inputs"].number: {_TENSOR["contents"].number: _NUMBERS},
}


def parse_message(kind: type[Any], data: bytes) -> Any:
    """Return the message that was sent. Raises `RequestError`."""
    name = kind.DESCRIPTOR.full_name
    fields = _DATA if kind is REQUESTS["ModelInfer"] else {}
    try:
        # A message that is small as a whole need not be looked into.
        if len(data) > _BYTES_BESIDES_DATA and bytes_besides(fields, data, _BYTES_BESIDES_DATA) > _BYTES_BESIDES_DATA:
            raise RequestError(
                f"got a message {name} with over {_BYTES_BESIDES_DATA} bytes that are not tensors' data, which is the "
                "limit; send data as raw contents or in packed lists"
            )
        return kind.FromString(data)
    except (WireError, DecodeError):
        raise RequestError(f"got {len(data)} bytes that are no message {name}") from None
