"""Looking at shards: whether they are whole (check), what is in one sample (show) and in all of them (stats)."""
