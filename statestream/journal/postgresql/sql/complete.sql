-- Makes a checkpoint of what was saved. $6 is the size of these slices, $7 the seq of the checkpoint before.
INSERT INTO {schema}.checkpoints (seq, tag, at, slices, total, bytes)
SELECT $1, $2, $3, $4, $5, $6 + coalesce(sum(octet_length(c.data) + octet_length(c.payload) + 200), 0)
FROM {schema}.changes c WHERE c.seq > $7 AND c.seq <= $1
