-- The changes of some slices in between that are not erased yet.
SELECT seq FROM {schema}.changes
WHERE seq > $1 AND seq <= $2 AND slice = ANY ($3::text[]) AND type <> 'statestream/erased' ORDER BY seq
