-- Gives a checkpoint the number of its slices, and the sum of their CRCs.
UPDATE {schema}.checkpoints SET slices = $2, total = $3 WHERE seq = $1
