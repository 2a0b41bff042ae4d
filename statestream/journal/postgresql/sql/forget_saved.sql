-- Deletes what the slices of checkpoint $1 have superseded, and those of them that say that a slice did not exist.
DELETE FROM {schema}.snapshots o USING {schema}.snapshots n
WHERE n.checkpoint = $1 AND o.slice = n.slice
    AND (o.checkpoint < $1 OR (o.checkpoint = $1 AND o.value IS NULL))
