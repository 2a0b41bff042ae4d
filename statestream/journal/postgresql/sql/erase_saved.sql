DELETE FROM {schema}.snapshots WHERE slice = ANY ($1::text[])
