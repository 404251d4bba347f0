"""Training: losses, tasks and the one trainer that runs them."""
