"""The labelling page: made from the schema, its clips, and what is read from it."""
