"""The deployment's log, and the delay between its attempts."""

import sys
import time
from pathlib import Path

import pytest

from serving.deploy import events
from serving.deploy.events import Backoff, ProblemLog, log_event


def test_a_problem_is_logged_when_it_appears_or_changes(capsys: pytest.CaptureFixture[str]):
    problems = ProblemLog()
    for error in (
        OSError("disk full"),
        OSError("disk full"),
        ValueError("odd\nsecond line"),
        None,
        OSError("disk full"),
    ):
        with problems.attempt("write the file"):
            if error:
                raise error
    lines = [line.partition(" cannot ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [f"write the file, trying again: {reason}" for reason in ("disk full", "odd", "disk full")]


def test_an_exempt_error_and_ctrl_c_are_raised(capsys: pytest.CaptureFixture[str]):
    for error in (KeyError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), ProblemLog().attempt("write", but=KeyError):
            raise error
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_on_a_full_disk_ends_nothing(monkeypatch: pytest.MonkeyPatch):
    logged = False
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        log_event("something happened")
        logged = True  # closing the file writes once more what could not be written, and fails
    assert logged


def test_the_delay_doubles_up_to_its_limit_until_a_success(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    backoff = Backoff()
    waits = []
    for _ in range(9):
        backoff.count_failure()
        before = now
        while not backoff.is_due():
            now += 0.5
        waits.append(now - before)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert waits[-1] == events.MAX_RETRY_DELAY_S
    assert backoff.failing_s() == sum(waits)
    backoff.reset()
    assert backoff.is_due() and backoff.failing_s() == 0
