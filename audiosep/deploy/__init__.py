"""Speed, export, live and distributed use."""
