"""What a client says to a service and what it makes of the answers, without I/O: shared by both clients."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from subspace_serve.client.answers import Answer
from subspace_serve.client.catalogue import Catalogue
from subspace_serve.client.drift import Drift
from subspace_serve.client.errors import (
    ClientError,
    ConnectionFailed,
    RequestRefused,
    ServerBusy,
    Timeout,
    UnexpectedAnswer,
)
from subspace_serve.client.exchange import Exchange, Reply, Result, Steps, Work
from subspace_serve.client.images import MisfitError, batch, listed, read_files
from subspace_serve.client.inference import OutdatedError, answer_of, asked_model, asked_outputs
from subspace_serve.client.wire import (
    HttpRequest,
    Options,
    file_request,
    infer_request,
    json_request,
    parse_inferred,
)

FRESH_SECONDS = 60.0
"""How long the server's list of models is relied on, and so how long a new default may go unnoticed."""

RELOAD_SECONDS = 120.0
"""How long a reload may take: the bundle is copied, and every graph is run."""

_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError)


class Conversation:
    """The calls of a client, each a generator of steps (see `subspace_serve.client.exchange`)."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        retries: int,
        random: Callable[[], float],
    ) -> None:
        if not (math.isfinite(timeout) and timeout > 0):
            raise ClientError(f"the timeout is {timeout!r}; give a positive number of seconds")
        if retries < 0:
            raise ClientError(f"retries is {retries!r}; give 0 or more")
        self.url = checked_url(url)
        self._timeout = timeout
        self._clock = time.monotonic
        self._exchange = Exchange(self.url, retries, random, time.monotonic)
        self._catalogue: tuple[float, Catalogue] | None = None

    def predict(self, images: Any, options: Options) -> Steps[Answer]:
        """Classify images."""
        end = self._clock() + self._timeout
        items: list[Any] = listed(images)
        if not all(isinstance(item, np.ndarray | bytes) for item in items):
            items = yield Work(lambda: read_files(items))
        if all(isinstance(item, bytes) for item in items):
            request = built(lambda: file_request(items, _one_more(options)))
            return (yield from self._ask_labels(request, options, end))
        while True:
            catalogue, age = yield from self._known(end)
            try:
                return (yield from self._predict_pixels(items, options, catalogue, end))
            except (MisfitError, OutdatedError, RequestRefused) as error:
                # Since the catalogue was fetched, another bundle with other models, input or labels may be served.
                if age == 0 or (isinstance(error, RequestRefused) and error.status not in (400, 404)):
                    raise
                self._catalogue = None
                newer, _ = yield from self._known(end)
                if newer == catalogue:
                    raise

    def models(self) -> Steps[Catalogue]:
        """Return what is served, freshly fetched."""
        return (yield from self._fetch_catalogue(self._clock() + self._timeout))

    def drift(self, model: str, *, reset: bool = False) -> Steps[Drift]:
        """Return what the drift alarm knows of a model, after it has begun anew where it is `reset`."""
        path = f"/models/{quote(model, safe='')}/drift"
        request = HttpRequest("POST", f"{path}/reset") if reset else HttpRequest("GET", path)
        reply = yield from self._ask(request, self._clock() + self._timeout)
        return self._read(reply, lambda: Drift.from_json(json.loads(reply.body)))

    def check(self, request: HttpRequest) -> Steps[None]:
        """Send a request, and ignore what a successful answer says."""
        yield from self._ask(request, self._clock() + self._timeout)

    def probe(self, path: str) -> Steps[bool]:
        """Return whether a probe is answered with 200; False when the answer is 429 or 503, or nobody answers."""
        try:
            yield from self._exchange.ask(HttpRequest("GET", path), self._timeout, retries=0)
        except (ServerBusy, ConnectionFailed, Timeout):
            return False
        return True

    def reload(self, timeout: float) -> Steps[str]:
        """Have the bundle reloaded, and return its manifest's SHA-256."""
        request = HttpRequest("POST", "/admin/reload", repeatable=False)
        reply = yield from self._exchange.ask(request, timeout)
        self._catalogue = None
        return self._read(reply, lambda: str(json.loads(reply.body)["bundle"]["sha256"]))

    def _predict_pixels(
        self, items: Sequence[np.ndarray | bytes], options: Options, catalogue: Catalogue, end: float
    ) -> Steps[Answer]:
        arrays = [item for item in items if isinstance(item, np.ndarray)]
        asked = asked_model(options, catalogue)
        if len(arrays) < len(items) or asked is None or (options.return_members and not asked[1]):
            # The protocol cannot express files, members or a domain without a model, or the members of a point.
            mixed = [batch([item], catalogue.input) if isinstance(item, np.ndarray) else item for item in items]
            return (yield from self._ask_labels(built(lambda: json_request(mixed, _one_more(options))), options, end))
        model, ensemble = asked
        images = batch(arrays, catalogue.input)
        outputs = asked_outputs(options, ensemble)
        request = built(lambda: infer_request(images, catalogue.input, model, options, outputs))
        reply = yield from self._ask(request, end)
        inferred = self._read(reply, lambda: parse_inferred(reply.body, reply.headers))
        if ("aggregate" in inferred.parameters) != ensemble:
            raise OutdatedError(f"{self.url} answers for {model} as another kind of model than it lists; ask again")
        return self._read(reply, lambda: answer_of(inferred, options, catalogue, reply.request_id))

    def _ask_labels(self, request: HttpRequest, options: Options, end: float) -> Steps[Answer]:
        reply = yield from self._ask(request, end)
        return self._read(
            reply,
            lambda: Answer.from_json(json.loads(reply.body), top_k=options.top_k, request_id=reply.request_id),
        )

    def _known(self, end: float) -> Steps[tuple[Catalogue, float]]:
        """Return the catalogue and its age in seconds, 0 when it was fetched just now."""
        known = self._catalogue  # read once: other threads may replace it
        if known is not None and (age := self._clock() - known[0]) < FRESH_SECONDS:
            return known[1], max(age, 1e-9)
        return (yield from self._fetch_catalogue(end)), 0

    def _fetch_catalogue(self, end: float) -> Steps[Catalogue]:
        reply = yield from self._ask(HttpRequest("GET", "/models"), end)
        catalogue = self._read(reply, lambda: Catalogue.from_json(json.loads(reply.body)))
        self._catalogue = (self._clock(), catalogue)
        return catalogue

    def _ask(self, request: HttpRequest, end: float) -> Steps[Reply]:
        left = end - self._clock()
        if left <= 0:
            raise Timeout(f"{request.method} {self.url}{request.path} was not asked within {self._timeout:g} s")
        return (yield from self._exchange.ask(request, left))

    def _read(self, reply: Reply, parse: Callable[[], Result]) -> Result:
        try:
            return parse()
        except _MALFORMED as error:
            raise UnexpectedAnswer(
                f"{self.url} does not answer as this service does ({type(error).__name__}: {error}); "
                f"is it at this address? It says: {reply.body[:80]!r}"
            ) from None


def checked_url(url: str) -> str:
    """Return a service's address without a trailing slash. Raises `ClientError` unless it is an HTTP address."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ClientError(f"the address {url!r} is none ({error}); {_LIKE}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ClientError(f"the address {url!r} is none of HTTP; {_LIKE}")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise ClientError(f"the address of {parsed.host} has a user, a query or a fragment; {_LIKE}")
    return str(parsed).rstrip("/")


_LIKE = "give one like http://127.0.0.1:3000"


def _one_more(options: Options) -> Options:
    """Ask for one label more: an answer without it has all classes."""
    return replace(options, top_k=options.top_k + 1)


def built(build: Callable[[], HttpRequest]) -> HttpRequest:
    """Return what `build` makes. Raises `ClientError` for options that cannot be serialised."""
    try:
        return build()
    except (TypeError, ValueError) as error:
        raise ClientError(f"the options cannot be sent ({error}); give plain, finite numbers and text") from None
