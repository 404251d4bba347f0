"""Networks as files for other engines."""
