"""Limits of what clients may cost the served version, which the proxy enforces before a body is in memory."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one proxy; the defaults are those of ``python -m serving.deploy``.

    A request beyond `max_requests` or `max_large` waits in the proxy, which does not read its body meanwhile.
    """

    #: Largest body, bytes: the 512 MB of base64 that the model accepts (`MAX_CHARACTERS` of `serving/model.py`), and a
    #: sixteenth for what JSON adds. Escaped slashes add 1.6 %, escaped line breaks 2.6 %.
    max_body_bytes: int = (512 + 32) * 2**20

    #: A body of more bytes, or one whose length is not announced, is large: a FLAC of 48 MB makes 64 MB of base64.
    large_bytes: int = 64 * 2**20

    #: Requests at once that are not large. Four keep two cores busy; the others may be arriving over slow connections.
    max_requests: int = 16

    #: Large requests at once: the largest one takes gigabytes of the server's memory, see docs/serving.md.
    max_large: int = 2

    #: Seconds that a request waits for its turn, or for a server to listen; a version needs about fifteen to restart.
    wait_s: float = 90

    #: Seconds in which the headers of a request must have arrived. They fit in one packet.
    header_s: float = 10

    #: Seconds that a body may be late, and the bytes per second that it must arrive with apart from that: a tenth of an
    #: uplink of 1 Mbit/s. Python may hold up a server that parses a large request for seconds.
    late_s: float = 30
    min_bytes_per_s: int = 12_500

    #: Seconds in which a body must have arrived in any case. A replaced version waits as long for its open requests.
    receive_s: float = 600

    #: Seconds that a connection may stay open between two requests.
    idle_s: float = 120
