"""Series: tables over time, windows, baselines, and forecasters fitted to them."""
