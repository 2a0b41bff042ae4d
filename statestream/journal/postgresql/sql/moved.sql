-- The slices that have another version than these.
SELECT string_agg(e.slice, ', ') FROM unnest($1::text[], $2::bigint[]) AS e (slice, version)
WHERE coalesce((SELECT v.version FROM {schema}.versions v WHERE v.slice = e.slice), 0) <> e.version
