"""The networks of the literature side by side: `python -m research.backbones`, see `comparison`."""
