"""Live separation: of raw samples in pipes or of what a sound card records, while it comes in."""
