SELECT pg_advisory_xact_lock(hashtextextended('{channel} migration', 0))
