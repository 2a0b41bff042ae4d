INSERT INTO {schema}.about (version) VALUES ($1) ON CONFLICT (one) DO UPDATE SET version = excluded.version
