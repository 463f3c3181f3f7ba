"""The command `serve`: checks the configuration and the bundle, then becomes the server's supervisor."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import click

from service.settings import Settings, load_settings
from subspace_serve.cli.flags import setting_options
from subspace_serve.cli.output import print_verification
from subspace_serve.errors import SubspaceServeError

# A secret on the command line is visible to every user of the machine; a table does not fit there.
_NOT_FLAGS = {"bundle", "token", "ensembles"}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file with any of the settings.")
@click.option("--check", is_flag=True, help="Check configuration and bundle, and exit.")
@setting_options(Settings, without=_NOT_FLAGS)
def serve(bundle: Path | None, config: Path | None, check: bool, **flags: Any) -> None:
    """Serve a bundle over HTTP, and with --grpc-port over gRPC.

    The bundle is copied and verified first. Every setting is a flag, a key of the TOML file and a variable: --max-body,
    max_body, SUBSPACE_SERVE_MAX_BODY; flags go first, then variables, then the file. Ensembles are tables of the file,
    and the token is a key, a variable or a file of its own. SIGHUP reloads the bundle, SIGTERM drains and stops.
    """
    from service.staging import State, stage_in_subprocess
    from service.supervisor import supervise

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    settings = load_settings(given | ({"bundle": bundle} if bundle else {}), config=config)
    # The server runs in another folder than the one that a relative path is meant for.
    settings = settings.model_copy(update={"bundle": settings.bundle.absolute()})
    _check_usable(settings)
    state = State.create()
    reserved = None
    # Until the supervisor installs its own handler, so that what was begun is cleaned up. (Without one, the signal
    # would not end a container's first process at all.)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        listener = None if check else _listen(settings.host, settings.port)
        reserved = None if check else _reserve(settings)
        print_verification(stage_in_subprocess(settings, state))
        if listener is None:
            click.echo(f"the configuration holds: {_described(settings)}")
            return
        grpc = f", for gRPC on port {settings.grpc_port}," if settings.grpc_port else ""
        click.echo(f"listening on {_address(settings)}{grpc} with {_described(settings)}")
        sys.stdout.flush()
        supervise(settings, state, listener)
    finally:
        if reserved is not None:
            reserved.close()
        state.remove()


def _check_usable(settings: Settings) -> None:
    """Refuse a bad certificate, and gRPC and tracing without their packages, before any worker fails over it."""
    import ssl

    from service import grpc, tracing

    if settings.grpc_port is not None:
        grpc.check_installed()
    if settings.trace_endpoint is not None:
        tracing.check_installed()
    if settings.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SubspaceServeError(
            f"the certificate {settings.tls_certificate} with the key {settings.tls_key} cannot be used ({error}); "
            "give two PEM files that belong together"
        ) from None


def _reserve(settings: Settings) -> socket.socket | None:
    """Return a socket that keeps the gRPC port for the workers, each of which listens there with one of its own."""
    if settings.grpc_port is None:
        return None
    with contextlib.closing(_listen(settings.host, settings.grpc_port, "--grpc-port")) as first:
        try:
            # Of several servers that begin at once, only one gets to listen. (As long as nobody listens, all may bind.)
            first.listen()
            # The socket that stays shares the port with the workers. It does not listen, since connections would come
            # to it too; but it lacks SO_REUSEADDR, so that others, which lack SO_REUSEPORT, find the port taken.
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved = socket.socket(first.family, socket.SOCK_STREAM)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind(first.getsockname())
        except OSError as error:
            raise _in_use(settings.host, settings.grpc_port, "--grpc-port", error) from None
    return reserved


def _listen(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Return a socket bound to an address; the workers listen on it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _in_use(host, port, flag, error) from None
    listener.set_inheritable(True)
    return listener


def _in_use(host: str, port: int, flag: str, error: OSError) -> SubspaceServeError:
    return SubspaceServeError(
        f"cannot listen on {host} port {port} ({error.strerror or error}); "
        f"stop what uses it, or choose another with {flag} or --host"
    )


def _address(settings: Settings) -> str:
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{settings.port}"


def _described(settings: Settings) -> str:
    workers = f"{settings.workers} worker" + ("s" if settings.workers > 1 else "")
    return f"{workers} of {settings.threads_per_worker} threads, device {settings.device}"


COMMANDS = {"serve": serve}
