"""Models on disk: the catalogue of names, checkpoints, configurations."""
