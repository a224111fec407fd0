"""Hold what the tests share: containers and bundles, archives, forked children, schemas, snapshots. No test is here."""
