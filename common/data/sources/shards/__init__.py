"""Tar shards in the layout of webdataset, read in random order by an index of their members."""
