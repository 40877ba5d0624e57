"""Worker processes that may crash without ending the run."""
