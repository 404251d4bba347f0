"""Training data: manifests, splits, decoded corpora, and mixtures drawn and rendered during training."""
