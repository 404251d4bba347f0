"""Networks: the published AudioSep network and ours, from the same blocks."""
