"""Proof on real weights for the published stem models."""
