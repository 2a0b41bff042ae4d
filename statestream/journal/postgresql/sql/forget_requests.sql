-- Forgets the oldest records, at most $3 of them: those from before $1, and as many as take $2 bytes.
WITH oldest AS (
    SELECT q.actor, q.id, q.at, q.size, sum(q.size) OVER (ORDER BY q.at, q.seq, q.actor, q.id) - q.size AS before
    FROM (
        SELECT r.actor, r.id, r.at, r.seq, {record_size} AS size FROM {schema}.requests r
        ORDER BY r.at, r.seq, r.actor, r.id LIMIT $3
    ) q
), gone AS (
    DELETE FROM {schema}.requests r USING oldest o
    WHERE r.actor = o.actor AND r.id = o.id AND (o.at < $1 OR o.before < $2)
    RETURNING o.size
)
SELECT count(*) AS records, coalesce(sum(size), 0)::bigint AS bytes FROM gone
