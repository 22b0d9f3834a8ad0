"""Run the demo agent: `python -m demo --port 0`."""

import logging
import signal
import socket
from typing import Annotated

import typer
import uvicorn

from demo.server import create_app


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 0,
    key: Annotated[str | None, typer.Option(help="API key to ask for.")] = None,
    debug: Annotated[bool, typer.Option(help="Serve /debug/requests.")] = False,
    pace: Annotated[float, typer.Option(help="Seconds between two words.")] = 0.02,
) -> None:
    """A small OpenAI-compatible agent; prints its address as one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Listening before the line is printed: who reads it can connect at once.
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        typer.echo(f"Cannot listen on {host}:{port}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{listener.getsockname()[1]}", flush=True)
    # Uvicorn raises the signal again once it has shut down; that is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        create_app(key=key, debug=debug, pace=pace),
        log_level="error",
        # A stream that was told to be silent would otherwise never end.
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    def worth_logging(record: logging.LogRecord) -> bool:
        # Neither a stream cut off by the end nor one cut short on request is an error.
        on_request = "without completing response" in record.getMessage()
        return not (server.should_exit or on_request)

    logging.getLogger("uvicorn.error").addFilter(worth_logging)
    server.run(sockets=[listener])


if __name__ == "__main__":
    typer.run(main)
