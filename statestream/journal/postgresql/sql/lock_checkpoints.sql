-- Whether this transaction is the only one that makes a checkpoint.
SELECT pg_try_advisory_xact_lock(hashtextextended('{channel}', 0))
