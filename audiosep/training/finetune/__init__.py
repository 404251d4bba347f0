"""Fine-tuning of separation models on a user's own sounds."""
