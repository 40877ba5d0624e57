"""Process of the temporary server, see `flows.command.temporary_server`; it imports nothing of the project."""

import os
import socket
import threading


def serve() -> None:
    """Run Prefect's server on a free port, which is printed, until standard input is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # requests wait here until there is a server
        print(listener.getsockname()[1], flush=True)
        os.dup2(2, 1)  # no one reads further lines
        threading.Thread(target=exit_with_parent, daemon=True).start()
        import uvicorn

        app = "prefect.server.api.server:create_app"
        config = uvicorn.Config(app, factory=True, log_level="error", lifespan="on")
        uvicorn.Server(config).run(sockets=[listener])


def exit_with_parent() -> None:
    """Exit when standard input is closed, which the system does if the parent ends in any way."""
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    serve()
