"""The synchronous client: it waits for each step of its conversation."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from subspace_serve.client.answers import Answer
from subspace_serve.client.catalogue import Catalogue
from subspace_serve.client.conversation import RELOAD_SECONDS, Conversation
from subspace_serve.client.drift import Drift
from subspace_serve.client.exchange import Lost, Pause, Reply, Result, Send, Steps
from subspace_serve.client.transport import LATE, arguments, lost, reply_of, standing_headers
from subspace_serve.client.wire import HttpRequest, Options


class Client:
    """Asks a service. Threads may share one; close it, or use it in a `with` block.

    Args:
        url: the service's address, as http://127.0.0.1:3000.
        token: the bearer token, where the service wants one.
        timeout: seconds that a call may take, repeated requests included; longer where a server sends an answer's
            headers in pieces.
        retries: how often a request is repeated while the server is busy (429, 503) or cannot be reached. Pauses are
            random; their upper bound doubles each time, up to 5 seconds, and the server's Retry-After is added.
        verify: the certificate authorities to trust, as a context of `ssl`; True for the usual ones, False for any.
        transport: what carries requests in place of a network, for tests.
        random, sleep: where pauses come from and how they are waited for, for tests.

    Its methods raise `ClientError`: `RequestRefused`, `ServerBusy`, `Timeout`, `ConnectionFailed`, `UnexpectedAnswer`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        retries: int = 4,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._conversation = Conversation(url, timeout=timeout, retries=retries, random=random)
        self._sleep = sleep
        self._http = httpx.Client(headers=standing_headers(token), verify=verify, transport=transport)

    def predict(
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
        """Classify images.

        Args:
            images: an array of one image or of several, in the format of the server's input (`models().input`); an
                image file's path, or its bytes; one of Pillow's images; or a sequence of any of these. Where the
                server's input has one channel, arrays may leave it out.
            model: a point or an ensemble; the server's default unless given.
            members: what to average, points by name and places as `alpha` takes them; with `model`, a subset of that
                ensemble's members.
            weights: one per member, not negative, with any positive sum.
            aggregate: "probabilities" or "logits", what an ensemble averages.
            alpha: instead of a model, the network at this place of the subspace (`models().subspace`): a number on a
                line or a curve, one number per endpoint on a simplex. Without a subspace, the point exported there.
            domain: whose BatchNorm statistics the networks use (`models().domains`); alone, the domain's own network
                answers.
            top_k: labels to return for each image.
            return_members: also what each member of an ensemble answered.
            resize: fit image files of another size; arrays must fit as they are.
            coverage: between 0 and 1; each prediction gets a `set` that holds the right label with this probability, on
                images like those that the bundle was calibrated on.
            max_risk: between 0 and 1; each prediction gets `abstained`, so that at most this share of those that do not
                abstain is wrong, on such images.
        """
        options = Options(
            model, members, weights, aggregate, alpha, domain, top_k, return_members, resize, coverage, max_risk
        )
        return self._run(self._conversation.predict(images, options))

    def models(self) -> Catalogue:
        """Return what is served: models, labels and input."""
        return self._run(self._conversation.models())

    def drift(self, model: str) -> Drift:
        """Return whether the images that a model answers have changed."""
        return self._run(self._conversation.drift(model))

    def reset_drift(self, model: str) -> Drift:
        """Begin to watch a model anew; only a server that was started with a token does it."""
        return self._run(self._conversation.drift(model, reset=True))

    def ready(self) -> bool:
        """Return whether the server takes requests; False also when nobody answers."""
        return self._run(self._conversation.probe("/readyz"))

    def live(self) -> bool:
        """Return whether the server answers at all."""
        return self._run(self._conversation.probe("/livez"))

    def reload(self, *, timeout: float = RELOAD_SECONDS) -> str:
        """Have the server verify its bundle again and serve it; return the SHA-256 of its manifest.

        Raises `RequestRefused` with status 409 when a check fails; the server then goes on with the old bundle.
        """
        return self._run(self._conversation.reload(timeout))

    def check(self, request: HttpRequest) -> None:
        """Send a request that `subspace_serve.bench.workload` made; raises as `predict` does."""
        self._run(self._conversation.check(request))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._conversation.url!r})"

    def _run(self, steps: Steps[Result]) -> Result:
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(step, Send):
                outcome = self._send(step)
            elif isinstance(step, Pause):
                outcome = self._sleep(step.seconds)
            else:
                outcome = step.function()

    def _send(self, step: Send) -> Reply | Lost:
        end = time.monotonic() + step.timeout
        body = []
        try:
            with self._http.stream(**arguments(self._conversation.url, step)) as response:
                for part in response.iter_bytes():
                    body.append(part)
                    if time.monotonic() > end:  # httpx limits each wait, not the whole
                        return LATE
                return reply_of(response, b"".join(body))
        except httpx.RequestError as error:
            return lost(error)
