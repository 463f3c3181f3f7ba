"""The asynchronous client: it awaits each step of its conversation."""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread
import httpx

from subspace_serve.client.answers import Answer
from subspace_serve.client.catalogue import Catalogue
from subspace_serve.client.conversation import RELOAD_SECONDS, Conversation
from subspace_serve.client.drift import Drift
from subspace_serve.client.exchange import Lost, Pause, Reply, Result, Send, Steps
from subspace_serve.client.transport import LATE, arguments, lost, reply_of, standing_headers
from subspace_serve.client.wire import Options


class AsyncClient:
    """`Client` for asyncio and trio: the same arguments and methods, to be awaited. Use it in an `async with` block."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        retries: int = 4,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self._conversation = Conversation(url, timeout=timeout, retries=retries, random=random)
        self._sleep = sleep
        self._http = httpx.AsyncClient(headers=standing_headers(token), verify=verify, transport=transport)

    async def predict(
        self,
        images: Any,
        *,
        model: str | None = None,
        members: Sequence[str | float | Sequence[float]] | None = None,
        weights: Sequence[float] | None = None,
        aggregate: str | None = None,
        alpha: float | Sequence[float] | None = None,
        domain: str | None = None,
        top_k: int = 5,
        return_members: bool = False,
        resize: bool = True,
        coverage: float | None = None,
        max_risk: float | None = None,
    ) -> Answer:
        """Classify images, as `Client.predict` does."""
        options = Options(
            model, members, weights, aggregate, alpha, domain, top_k, return_members, resize, coverage, max_risk
        )
        return await self._run(self._conversation.predict(images, options))

    async def models(self) -> Catalogue:
        """Return what is served: models, labels and input."""
        return await self._run(self._conversation.models())

    async def drift(self, model: str) -> Drift:
        """Return whether the images that a model answers have changed."""
        return await self._run(self._conversation.drift(model))

    async def reset_drift(self, model: str) -> Drift:
        """Begin to watch a model anew; only a server that was started with a token does it."""
        return await self._run(self._conversation.drift(model, reset=True))

    async def ready(self) -> bool:
        """Return whether the server takes requests; False also when nobody answers."""
        return await self._run(self._conversation.probe("/readyz"))

    async def live(self) -> bool:
        """Return whether the server answers at all."""
        return await self._run(self._conversation.probe("/livez"))

    async def reload(self, *, timeout: float = RELOAD_SECONDS) -> str:
        """Have the server verify its bundle again and serve it, as `Client.reload` does."""
        return await self._run(self._conversation.reload(timeout))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._conversation.url!r})"

    async def _run(self, steps: Steps[Result]) -> Result:
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(step, Send):
                outcome = await self._send(step)
            elif isinstance(step, Pause):
                outcome = await self._sleep(step.seconds)
            else:
                outcome = await anyio.to_thread.run_sync(step.function)

    async def _send(self, step: Send) -> Reply | Lost:
        try:
            with anyio.fail_after(step.timeout):
                response = await self._http.request(**arguments(self._conversation.url, step))
        except TimeoutError:
            return LATE
        except httpx.RequestError as error:
            return lost(error)
        return reply_of(response, response.content)
