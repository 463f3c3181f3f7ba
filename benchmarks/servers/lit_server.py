"""The same model behind LitServe: `python -m benchmarks.servers.lit_server --port PORT`."""

from __future__ import annotations

import signal
from typing import Any

import click
import litserve
import numpy as np

from benchmarks.servers.model import Model


class Classifier(litserve.LitAPI):
    """Nested lists of pixels in, probabilities out."""

    def setup(self, device: str) -> None:
        """Load the model, in the process that runs it."""
        self.model = Model.from_environment()

    def decode_request(self, request):  # an annotation would be taken for a schema
        """Return images (N, height, width, channels) of parsed JSON."""
        return np.array(request["images"], np.uint8)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return (N, classes) probabilities."""
        return self.model.probabilities(x)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """Return what becomes JSON."""
        return {"probabilities": output.tolist()}


@click.command()
@click.option("--port", type=int, required=True)
def main(port: int) -> None:
    """Serve until terminated."""
    # LitServe shuts its processes down cleanly only on an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
