"""The studio: a page in the browser that separates a recording into tracks and mixes them."""
