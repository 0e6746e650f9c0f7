"""Label formats and data sets."""
