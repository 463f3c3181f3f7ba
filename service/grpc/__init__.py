"""The Open Inference Protocol over gRPC: another way to the engine that answers over HTTP."""

from __future__ import annotations

from importlib.util import find_spec

from service.settings import SettingsError


def check_installed() -> None:
    """Raise `SettingsError` unless the packages of the extra `grpc` are installed."""
    if not all(map(find_spec, ("grpc", "grpc_health", "grpc_reflection"))):
        raise SettingsError("grpc_port needs grpcio and its services: pip install 'subspace-serve[grpc]'")
