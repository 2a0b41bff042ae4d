-- What checkpoints have of some slices. `crc` is NULL where a slice did not exist.
SELECT slice, checkpoint, CASE WHEN value IS NULL THEN NULL ELSE crc END AS crc FROM {schema}.snapshots
WHERE slice = ANY ($1::text[]) ORDER BY slice, checkpoint
