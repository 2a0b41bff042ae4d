DELETE FROM {schema}.versions WHERE slice = ANY ($1::text[])
