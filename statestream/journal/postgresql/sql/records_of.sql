-- The keys of the records about some slices.
SELECT actor, id FROM {schema}.requests WHERE slices::jsonb ?| $1::text[]
