-- The versions of the slices with these names as of checkpoint $1, without their values.
SELECT s.slice, s.version, s.removed
FROM unnest($2::text[]) AS k (name)
CROSS JOIN LATERAL (
    SELECT slice, version, value IS NULL AS removed FROM {schema}.snapshots o
    WHERE o.slice = k.name AND o.checkpoint <= $1 ORDER BY o.checkpoint DESC LIMIT 1
) s
