"""Many recordings on several processes or machines, with Ray."""
