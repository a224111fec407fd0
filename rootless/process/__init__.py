"""One file a property of `process`: read_ is pure, apply_ acts."""
