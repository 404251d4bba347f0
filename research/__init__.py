"""Studies and recipes behind `mini` and the pages of documentation: not in the wheel, imported by nobody."""
