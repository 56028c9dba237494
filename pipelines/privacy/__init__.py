"""Personal data in records and shards: what of it is there, where notes lie, who may read them, and redaction."""
