-- The earliest position, if changes up to it are still there: the trim that moved it was interrupted.
SELECT floor_seq FROM {schema}.head WHERE floor_seq >= (SELECT min(seq) FROM {schema}.changes)
