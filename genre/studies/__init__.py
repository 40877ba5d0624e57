"""Studies beside the main road: ablations, robustness, label audit, drift, the paper's results."""
