-- Deletes the oldest changes up to the earliest position $1, at most $2 of them.
DELETE FROM {schema}.changes
WHERE seq <= least($1, (SELECT min(seq) FROM {schema}.changes) - 1 + $2)
