"""The report: what a manifest says, as a page, as plots and in words."""
