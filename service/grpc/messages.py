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

from service.requests import RequestError

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


def parse_message(method: str, data: bytes) -> Any:
    """Return what was sent to a method. Raises `RequestError`."""
    try:
        return REQUESTS[method].FromString(data)
    except DecodeError:
        name = REQUESTS[method].DESCRIPTOR.full_name
        raise RequestError(f"got {len(data)} bytes that are no message {name}") from None
