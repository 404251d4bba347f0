"""Separation of sound as it comes in: pipes and sound cards."""
