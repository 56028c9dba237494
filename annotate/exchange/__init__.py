"""Items and annotations into Label Studio, annotations out of it."""
