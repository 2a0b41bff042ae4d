-- The next records after a key that are not too old, in the order of their keys.
SELECT actor, id, at, seq, crc, tag, digest, slices FROM {schema}.requests
WHERE (actor, id) > ($1, $2) AND at >= $3 ORDER BY actor, id LIMIT $4
