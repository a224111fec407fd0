"""Read and apply the properties of `process`, one file for each: read_ functions are pure, apply_ functions act."""
