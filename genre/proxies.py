"""Proxies that the environment names, by which servers of this machine are never asked."""

import os
from collections.abc import Sequence
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

#: Names of this machine, by which the commands reach servers that run on it.
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

#: What httpx takes for all hosts wherever it is in the list; requests, urllib and pip do only where it is alone.
ALL_OF_HTTPX = "*"


def exempt_loopback() -> None:
    """Exempt servers of this machine from the environment's proxies, in this process and those that it starts.

    ``NO_PROXY`` and ``no_proxy`` keep what they list and get `LOOPBACK_HOSTS` as well; everything else goes through
    the proxies as before. An environment without proxies stays so: with these variables alone, Python
    would no longer look at the proxies in the settings of macOS and Windows.
    """
    _exempt(LOOPBACK_HOSTS)


def exempt_httpx() -> None:
    """Exempt from the environment's proxies whatever httpx asks, and of other libraries what `exempt_loopback` does.

    For a process whose httpx asks servers of this machine only. Exempting these hosts is not enough: httpx makes the
    connection to each proxy beforehand, and raises an error where that is a SOCKS proxy and the package socksio is
    missing, or where ``NO_PROXY`` lists an address such as ``::1/128``.
    """
    _exempt([*LOOPBACK_HOSTS, ALL_OF_HTTPX])


def is_loopback(url: str) -> bool:
    """Return whether an address names this machine, as one of `LOOPBACK_HOSTS`."""
    try:
        return urlsplit(url).hostname in LOOPBACK_HOSTS
    except ValueError:  # no address at all, such as http://[
        return False


def _exempt(hosts: Sequence[str]) -> None:
    if not getproxies_environment():
        return
    upper, lower = (os.environ.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    # Python prefers the lower case, other programs the upper: each gets what it lacks
    for name, listed in (("NO_PROXY", upper or lower), ("no_proxy", lower or upper)):
        before = [host.strip() for host in listed.split(",") if host.strip()]
        if before != ["*"]:  # all hosts, for every library, as long as it is alone
            os.environ[name] = ",".join(dict.fromkeys([*before, *hosts]))
