SELECT coalesce(sum({record_size}), 0)::bigint AS bytes FROM {schema}.requests r
