-- Changes take so many bytes less now, and so do the checkpoints that cover them.
UPDATE {schema}.checkpoints p SET bytes = greatest(0, p.bytes - s.bytes)
FROM (
    SELECT (SELECT min(o.seq) FROM {schema}.checkpoints o WHERE o.seq >= k.seq) AS seq, sum(k.bytes)::bigint AS bytes
    FROM unnest($1::bigint[], $2::bigint[]) AS k (seq, bytes) GROUP BY 1
) s
WHERE p.seq = s.seq
