"""Tally of what a listing of files leaves out: in the log, in MLflow and in Prefect."""

from prefect import get_run_logger

from flows.reports import tables
from genre.audio.left_out import LeftOut


def publish_left_out(run_id: str, left_out: LeftOut) -> None:
    """Log what is left out, a line per reason, and publish its numbers as a table; nothing if nothing is.

    Parameters
    ----------
    run_id : str
        Run that the table belongs to; it receives no path.
    left_out : LeftOut
        What is left out.
    """
    for line in left_out.to_lines():
        get_run_logger().warning("%s", line)
    if left_out.examples:
        tables.publish_table(run_id, left_out.to_table(), "left-out", "Left out of the listing, by reason and type.")
