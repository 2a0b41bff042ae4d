-- The checkpoints up to the earliest position $1 whose slices may supersede older ones: those after the oldest change.
SELECT DISTINCT s.checkpoint FROM {schema}.snapshots s
WHERE s.checkpoint >= (SELECT min(c.seq) FROM {schema}.changes c) AND s.checkpoint <= $1
ORDER BY s.checkpoint
