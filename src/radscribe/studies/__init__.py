"""What a study is, one reader per dataset, the phantom, and the prepared store."""
