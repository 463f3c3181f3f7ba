"""The least that answers over HTTP: Starlette and ONNX Runtime, pixels in and probabilities out as plain bytes.

Two variants of the same route, since it could be written either way: `/inline` runs the graph on the event loop,
`/threadpool` on one of Starlette's threads. Nothing is checked, counted or logged.
"""

from __future__ import annotations

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from benchmarks.servers.model import Model


def create_app() -> Starlette:
    """Return the application; uvicorn calls this."""
    model = Model.from_environment()

    def classify(body: bytes) -> bytes:
        return model.probabilities(np.frombuffer(body, np.uint8).reshape(-1, *model.shape)).tobytes()

    async def inline(request: Request) -> Response:
        return Response(classify(await request.body()), media_type="application/octet-stream")

    async def threadpool(request: Request) -> Response:
        return Response(await run_in_threadpool(classify, await request.body()), media_type="application/octet-stream")

    async def ready(request: Request) -> Response:
        return PlainTextResponse("ready\n")

    return Starlette(
        routes=[
            Route("/inline", inline, methods=["POST"]),
            Route("/threadpool", threadpool, methods=["POST"]),
            Route("/ready", ready),
        ]
    )
