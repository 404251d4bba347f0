"""Training of separation models."""
