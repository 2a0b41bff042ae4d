-- The records under these keys that are not too old.
SELECT r.actor, r.id, r.seq, r.crc, r.tag, r.digest, r.slices
FROM unnest($1::text[], $2::text[]) AS k (actor, id)
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.requests q WHERE q.actor = k.actor AND q.id = k.id LIMIT 1
) r
WHERE r.at >= $3
