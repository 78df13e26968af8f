"""Free ports of 127.0.0.1 that stay free while a service is down.

They lie below the range that Linux takes outgoing connections' ports from (from 32768), so that
no client's connection sits on a killed service's port when it is started again.
"""

import random
import socket

HOST = "127.0.0.1"
_FIRST, _LAST = 20_000, 32_000
_TRIES = 200


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on now.

    Raises:
        OSError: none was found in `_TRIES` tries.
    """
    held: list[socket.socket] = []
    try:
        for port in random.sample(range(_FIRST, _LAST), _TRIES):
            if len(held) == count:
                break
            probe = socket.socket()
            try:
                probe.bind((HOST, port))
            except OSError:
                probe.close()
                continue
            held.append(probe)
        if len(held) < count:
            raise OSError(f"no {count} free ports between {_FIRST} and {_LAST}")
        return [int(probe.getsockname()[1]) for probe in held]
    finally:
        for probe in held:
            probe.close()


def answers(port: int) -> bool:
    """Whether something accepts connections at `port`."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
