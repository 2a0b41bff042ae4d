-- Saves some slices of checkpoint $1. Returns how many of them existed at the checkpoint before, and the sum of their CRCs.
WITH added AS (
    INSERT INTO {schema}.snapshots (slice, checkpoint, version, crc, tag, value)
    SELECT n.slice, $1, n.version, n.crc, n.tag, n.value
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[]) AS n (slice, version, crc, tag, value)
)
SELECT count(*) AS slices, coalesce(sum(b.crc), 0)::bigint AS total
FROM unnest($2) AS k (name)
CROSS JOIN LATERAL (
    SELECT o.crc, o.value IS NULL AS removed FROM {schema}.snapshots o
    WHERE o.slice = k.name AND o.checkpoint < $1 ORDER BY o.checkpoint DESC LIMIT 1
) b
WHERE NOT b.removed
