import logging

from flows import cli
from genre.errors import GenreError


def test_what_prefect_says_again_of_a_foreseen_error_is_left_out_and_nothing_else():
    shown: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(cli._without_traceback)
    handler.addFilter(cli._repetition_filter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    error = GenreError("no music in x/")
    for text in ("Task run failed with exception: %r", "Encountered exception during execution: %r"):
        try:
            raise error
        except GenreError:
            logger.exception(text, error)
    logger.error("Finished in state %s", f"Failed('{error}')")
    logger.error("svm failed: %s", error)
    logger.error("Finished in state %s", "Failed('another reason')")
    assert [line.split()[0] for line in shown] == ["Task", "svm", "Finished"]
