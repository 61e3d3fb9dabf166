"""Studies: what a study is, one reader per data set, the phantom, and the prepared store."""
