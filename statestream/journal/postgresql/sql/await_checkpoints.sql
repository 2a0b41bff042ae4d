-- Waits until no other transaction makes a checkpoint, and keeps others from making one.
SELECT pg_advisory_xact_lock(hashtextextended('{channel}', 0))
