"""Processes that end with their parent, and take their own children along; the ports they listen on."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psutil


def in_own_group() -> dict[str, Any]:
    """Return arguments of `subprocess.Popen` for a process that Ctrl-C does not reach and that dies with its parent."""
    return {"start_new_session": True, "preexec_fn": _die_with_parent() if sys.platform == "linux" else None}


def terminate_group(process: subprocess.Popen[Any], timeout_s: float) -> None:
    """Terminate the leader of a process group and the whole group; kill what is left after `timeout_s` seconds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    deadline = time.monotonic() + min(timeout_s, 2)
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def listens(process: subprocess.Popen[Any], port: int) -> bool:
    """Return whether a process, or one that it has started, listens on a port of this machine."""
    with suppress(psutil.Error):  # it has just ended
        leader = psutil.Process(process.pid)
        for member in (leader, *leader.children(recursive=True)):
            with suppress(psutil.Error):
                connections = member.net_connections("tcp")
                if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections):
                    return True
    return False


def _die_with_parent() -> Callable[[], int]:
    """Return a function that has Linux terminate the calling process when its parent dies, even if it was killed.

    The library is loaded here: after the fork of a process with threads, loading it may block for ever.
    """
    # 1 is PR_SET_PDEATHSIG in sys/prctl.h
    return partial(ctypes.CDLL(None).prctl, 1, signal.SIGTERM)
