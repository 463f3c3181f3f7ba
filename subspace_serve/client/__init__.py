"""Asks a service over HTTP: `Client` and `AsyncClient`. It needs `pip install 'subspace-serve[client]'`."""

from __future__ import annotations

from subspace_serve.client.answers import Answer, Label, MemberPrediction, Prediction
from subspace_serve.client.async_client import AsyncClient
from subspace_serve.client.catalogue import Catalogue, Domain, InputFormat, Model, Subspace
from subspace_serve.client.client import Client
from subspace_serve.client.drift import Drift
from subspace_serve.client.errors import (
    ClientError,
    ConnectionFailed,
    RequestRefused,
    ServerBusy,
    Timeout,
    UnexpectedAnswer,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "Catalogue",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "Domain",
    "Drift",
    "InputFormat",
    "Label",
    "MemberPrediction",
    "Model",
    "Prediction",
    "RequestRefused",
    "ServerBusy",
    "Subspace",
    "Timeout",
    "UnexpectedAnswer",
]
