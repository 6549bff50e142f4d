"""TensorBoard that answers only where it is served, under the names of 127.0.0.1.

    python extras/board/_serve.py [OPTIONS OF TENSORBOARD...]

TensorBoard itself answers under every name. A page of another site could point its own name at
127.0.0.1 and read the runs with the reader's browser.
"""

import re
import sys
from collections.abc import Iterable
from typing import Any

from tensorboard import default, main_lib, program

HOSTS = ("127.0.0.1", "localhost")


def main() -> None:
    """Serve until a signal ends it."""
    main_lib.global_init()
    board = program.TensorBoard(default.get_plugins(), server_class=make_server)
    board.configure(sys.argv)
    sys.exit(board.main())


def make_server(app: Any, flags: Any) -> Any:
    """TensorBoard's server of a WSGI application, with a check of the header Host.

    Only the name is checked: a forwarded port may be another one.
    """

    def checked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if re.sub(":[0-9]+$", "", environ.get("HTTP_HOST", "")) in HOSTS:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [f"This page is served at {' and '.join(HOSTS)} only.".encode()]

    return program.WerkzeugServer(checked, flags)


if __name__ == "__main__":
    main()
