SELECT slice, version FROM {schema}.versions WHERE slice = ANY ($1::text[])
