"""Worker processes, on this machine or on a Dask cluster, whose crashes do not end the run."""
