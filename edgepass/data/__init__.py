"""Data: series, windows, splits, scalers and metrics."""
