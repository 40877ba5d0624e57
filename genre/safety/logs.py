"""Log records of any library, without the secrets in the addresses that they name."""

import logging
from typing import Any

from genre.errors import hide_in_exception, hide_secrets


class HidingLogRecord(logging.LogRecord):
    """Log record whose message and traceback show no secrets, see `genre.errors.hide_secrets`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[1]:
            hide_in_exception(self.exc_info[1])

    def getMessage(self) -> str:
        """Return the message with its arguments, without secrets."""
        return hide_secrets(super().getMessage())


def hide_in_logs() -> None:
    """Hide secrets in everything that this process logs from now on, whichever library logs it to whichever handler."""
    logging.setLogRecordFactory(HidingLogRecord)
