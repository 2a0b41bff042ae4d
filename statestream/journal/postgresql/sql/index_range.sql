-- The versions of the next slices as of checkpoint $1 whose names are between $2 and $3, from the last one on.
SELECT DISTINCT ON (slice) slice, version, value IS NULL AS removed FROM {schema}.snapshots
WHERE checkpoint <= $1 AND slice >= $2 AND slice < $3
ORDER BY slice DESC, checkpoint DESC
LIMIT $4
