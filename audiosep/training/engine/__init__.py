"""The trainer: steps, schedules, checkpoints, logs. It knows tasks only by their interface."""
