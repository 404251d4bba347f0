"""Training data: manifests, mixtures drawn and rendered on the fly."""
