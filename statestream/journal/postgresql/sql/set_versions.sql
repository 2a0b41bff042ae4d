INSERT INTO {schema}.versions (slice, version) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (slice) DO UPDATE SET version = excluded.version
