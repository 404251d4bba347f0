"""Targets on disk: file names, levels, jobs over many recordings."""
