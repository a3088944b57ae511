"""`python -m asgipipe.deployers.container.hold HOST PORT SOCKET`: own an address, and give its listener to keepers.

The listener belongs to the network of this process, wherever those run that accept its connections. It does not listen
by itself, so clients are refused until the first server does.
"""

import signal
import socket
import sys
from contextlib import closing
from pathlib import Path
from select import select

from asgipipe.deployers.keeper.handing_over import Offer
from asgipipe.errors import ServerError
from asgipipe.servers.sockets import bind_address

_FAILED = 3


def main(arguments: list[str]) -> int:
    host, port, path = arguments
    try:
        listener = bind_address(host, int(port))
    except ServerError as error:
        sys.stderr.write(f"Error: {error}\n")
        return _FAILED
    reader, writer = socket.socketpair()
    with closing(listener), closing(reader), closing(writer), closing(Offer(Path(path), listener)) as offer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        while True:
            ready, _, _ = select([reader.fileno(), offer.fileno()], [], [])
            if reader.fileno() in ready:
                return 0
            offer.answer()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
