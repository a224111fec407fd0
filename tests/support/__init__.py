"""What the tests share and that is no test: containers and bundles, archives, forked children, schemas, snapshots."""
