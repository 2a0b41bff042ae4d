-- The slices with these names as of checkpoint $1.
SELECT s.slice, s.checkpoint, s.version, s.crc, s.tag, s.value
FROM unnest($2::text[]) AS k (name)
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.snapshots o WHERE o.slice = k.name AND o.checkpoint <= $1 ORDER BY o.checkpoint DESC LIMIT 1
) s
