"""Networks of the literature behind one face, for fixed stems, for queries, or for both; see `backbone`."""
