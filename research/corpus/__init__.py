"""The public training corpus: a table of recordings in public repositories, what builds it, and a renderer of songs."""
